//! Words that users of Spark, Delta Live Tables, pandas and confluent-kafka type, and bayou's words for the same things. This is the only such list.

use pyo3::exceptions::PyAttributeError;
use pyo3::prelude::*;
use pyo3::types::PyDict;

/// Words of neighbouring systems for arguments, and bayou's words for the same things.
const ARGUMENTS: [(&str, &str); 23] = [
    ("mode", "output_mode"),
    ("outputMode", "output_mode"),
    ("checkpointLocation", "checkpoint_location"),
    ("checkpoint", "checkpoint_location"),
    ("queryName", "query_name"),
    ("startingOffsets", "starting_offsets"),
    ("endingOffsets", "ending_offsets"),
    ("maxOffsetsPerTrigger", "max_offsets_per_trigger"),
    ("failOnDataLoss", "fail_on_data_loss"),
    ("includeHeaders", "include_metadata"),
    ("partitionBy", "partition_by"),
    ("partition_columns", "partition_by"),
    ("partition_cols", "partition_by"),
    ("mergeSchema", "schema_mode"),
    ("processingTime", "trigger"),
    ("availableNow", "trigger"),
    ("once", "trigger"),
    (
        "group_id",
        "commit_to_group (for lag tools): a table's position is in its checkpoint. batches(group_id=) joins a group",
    ),
    ("auto_offset_reset", "starting_offsets"),
    ("path", "the first argument"),
    ("awaitTermination", "await_termination"),
    ("lastProgress", "last_progress"),
    ("recentProgress", "recent_progress"),
];

/// Attributes by class: the words, and the sentence that says what to write.
const ATTRIBUTES: &[(&str, &[&str], &str)] = &[
    ("Stream", &["filter", "query", "loc", "mask"], "Here it is called where, with a SQL condition."),
    (
        "Stream",
        &["withColumn", "with_column", "assign"],
        "Write with_columns(name=\"expression\"), or with_columns(\"expression AS name\").",
    ),
    ("Stream", &["withColumns"], "Here it is called with_columns."),
    ("Stream", &["withWatermark"], "Here it is called with_watermark."),
    ("Stream", &["groupBy", "groupby"], "Here it is called group_by."),
    (
        "Stream",
        &["rollup", "cube"],
        "GROUP BY ROLLUP and CUBE are for tables: write the table, and query it with bayou.sql or lake.sql.",
    ),
    (
        "Stream",
        &["writeStream", "write_stream", "write", "toTable", "saveAsTable", "to_delta", "to_parquet", "insertInto"],
        "Here it is called write_delta.",
    ),
    ("Stream", &["to_kafka", "writeKafka"], "Here it is called write_kafka."),
    ("Stream", &["withColumnRenamed", "withColumnsRenamed"], "Here it is called rename, with {old: new}."),
    (
        "Stream",
        &["toPandas", "to_pandas", "to_polars", "to_arrow", "toArrow", "toLocalIterator", "values", "to_dict"],
        "A stream has no end: use collect().to_pandas() for the rows that exist now, or pandas_batches() for rows as they come. The result of \
         collect() also has to_polars(), to_arrow() and to_dicts().",
    ),
    (
        "Stream",
        &["dropDuplicates", "dropDuplicatesWithinWatermark", "distinct", "drop_duplicate", "unique", "nunique"],
        "Write drop_duplicates(keys, within=\"10 minutes\"), after with_watermark.",
    ),
    ("Stream", &["selectExpr"], "Here it is called select; it takes SQL expressions."),
    (
        "Stream",
        &[
            "limit",
            "show",
            "display",
            "head",
            "take",
            "tail",
            "first",
            "sample",
            "iloc",
            "to_string",
            "info",
            "isEmpty",
            "empty",
        ],
        "Look at rows with preview(20) or collect(20).",
    ),
    ("Stream", &["count", "size", "shape"], "A stream has no end: use group_by().agg(\"count(*) AS n\")."),
    (
        "Stream",
        &["agg", "sum", "avg", "mean", "min", "max", "aggregate", "value_counts", "median", "std"],
        "Write group_by(keys).agg(\"sum(x) AS total\"). Without keys: group_by().agg(…).",
    ),
    (
        "Stream",
        &["orderBy", "order_by", "sort", "sort_values", "sortWithinPartitions", "nlargest"],
        "A stream has no order of rows: sort the table that it is written to, as in lake.sql(\"… ORDER BY …\").",
    ),
    ("Stream", &["unionAll", "unionByName", "concat", "append"], "Here it is called union; columns go by name."),
    ("Stream", &["foreachBatch", "foreach"], "Here it is called foreach_batch."),
    (
        "Stream",
        &[
            "mapInPandas",
            "mapInArrow",
            "map",
            "flatMap",
            "apply",
            "transform",
            "pipe",
            "applyInPandas",
            "mapPartitions",
            "rdd",
            "applymap",
        ],
        "Here it is called map_batches, for a function over batches of rows. For a function that takes a Stream and returns one, call it: f(stream).",
    ),
    (
        "Stream",
        &["printSchema", "dtypes", "describe", "summary"],
        "Here it is print(stream.schema), and stream.schema.types.",
    ),
    ("Stream", &["isStreaming"], "A Stream is always streaming."),
    (
        "Stream",
        &["dropna", "isna", "isnull", "notna", "na"],
        "Write where(\"x IS NOT NULL\"), or expect_or_drop(\"x is set\", \"x IS NOT NULL\"), which counts the rows.",
    ),
    ("Stream", &["fillna", "fill", "replace"], "Write with_columns(x=\"coalesce(x, 0)\")."),
    ("Stream", &["astype", "cast"], "Write with_columns(x=\"CAST(x AS INT)\")."),
    (
        "Stream",
        &["cache", "persist", "unpersist", "checkpoint", "localCheckpoint", "repartition", "coalesce"],
        "bayou reads a topic once for all tables of a Pipeline, and distributes the work by itself.",
    ),
    (
        "Stream",
        &["createOrReplaceTempView", "createTempView", "createGlobalTempView"],
        "Write the stream to a table, and ask lake.sql(…) or bayou.sql(…, name=\"path\").",
    ),
    ("Stream", &["explode"], "Write select(\"id\", \"explode(items) AS item\")."),
    ("Stream", &["alias"], "Here it is called named."),
    ("Stream", &["merge"], "Here it is called join."),
    ("Stream", &["columnNames"], "Here it is called columns."),
    (
        "Stream",
        &["start", "run", "trigger", "awaitTermination"],
        "Call write_delta(target, trigger=\"10 seconds\"), which starts a query and returns it.",
    ),
    (
        "Stream",
        &["option", "options", "format", "outputMode", "queryName", "partitionBy"],
        "Options are arguments: write_delta(target, output_mode=…, partition_by=…, checkpoint_location=…).",
    ),
    (
        "Stream",
        &["groupByKey", "rolling", "resample", "window"],
        "Write group_by(bayou.window(\"time\", \"5 minutes\"), \"key\").agg(…), after with_watermark.",
    ),
    (
        "Stream",
        &["poll", "consume", "subscribe", "seek", "commit"],
        "Read with batches(): the position is in a checkpoint, batches(name=\"my-loop\", checkpoint_location=…), or in a consumer group, batches(group_id=\"my-group\").",
    ),
    (
        "GroupedStream",
        &["sum", "avg", "mean", "min", "max", "first", "last", "median", "std", "size", "nunique", "describe"],
        "Write agg(\"sum(x) AS total\", \"avg(x) AS mean\").",
    ),
    ("GroupedStream", &["aggregate"], "Here it is called agg."),
    (
        "GroupedStream",
        &["pivot"],
        "Write one aggregate for each value: agg(\"count(*) FILTER (WHERE k = 'a') AS a\"); or PIVOT in lake.sql(…).",
    ),
    (
        "GroupedStream",
        &[
            "apply",
            "applyInPandas",
            "applyInPandasWithState",
            "transformWithState",
            "transformWithStateInPandas",
            "flatMapGroupsWithState",
            "cogroup",
        ],
        "Write agg(x=bayou.aggregate(function, returns=\"DOUBLE\")).",
    ),
    (
        "GroupedStream",
        &["window"],
        "Put the window into group_by: group_by(bayou.window(\"time\", \"5 minutes\"), \"key\").",
    ),
    (
        "GroupedStream",
        &["writeStream", "write_delta", "collect", "batches", "preview", "select"],
        "Call agg(…) or count() first; both return a Stream.",
    ),
    ("Table", &["toPandas", "df", "pd"], "Here it is called to_pandas()."),
    (
        "Table",
        &["toArrow", "arrow", "to_pyarrow", "to_batches", "to_reader"],
        "Here it is called to_arrow(), which returns a pyarrow.Table.",
    ),
    ("Table", &["pl"], "Here it is called to_polars()."),
    (
        "Table",
        &[
            "to_pylist",
            "to_dict",
            "collect",
            "rows",
            "to_records",
            "records",
            "fetchall",
            "asDict",
            "iterrows",
            "itertuples",
        ],
        "Iterate over the table, or call to_dicts().",
    ),
    ("Table", &["to_pydict"], "Write {name: table[name] for name in table.columns}."),
    ("Table", &["shape"], "Write (len(table), len(table.columns))."),
    ("Table", &["count", "size"], "Write len(table)."),
    (
        "Table",
        &["dtypes", "printSchema", "info", "describe"],
        "Here it is print(table.schema), and table.schema.types.",
    ),
    ("Table", &["column_names", "columnNames"], "Here it is called columns."),
    (
        "Table",
        &["tail", "take", "limit", "first", "iloc", "sample"],
        "Write table.head(5), table[-5:] or table.row(0).",
    ),
    (
        "Table",
        &[
            "filter",
            "where",
            "query",
            "groupby",
            "groupBy",
            "sort_values",
            "orderBy",
            "sort",
            "merge",
            "join",
            "select",
            "withColumn",
            "agg",
            "plot",
            "sum",
            "mean",
        ],
        "A Table is a result: continue with to_pandas() or to_polars(), or write it in SQL: bayou.sql(\"SELECT … FROM t\", t=table).",
    ),
    (
        "Table",
        &["to_csv", "to_parquet", "to_json", "to_excel", "to_sql", "write", "saveAsTable"],
        "Write table.to_pandas().to_csv(…), or polars' or pyarrow's writers.",
    ),
    ("Table", &["display"], "Write display(table), or table.show()."),
    ("Query", &["isActive", "running"], "Here it is called is_active."),
    ("Query", &["runId"], "Here it is called run_id."),
    ("Query", &["lastProgress"], "Here it is called last_progress."),
    ("Query", &["recentProgress"], "Here it is called recent_progress."),
    (
        "Query",
        &["awaitTermination", "wait", "join", "await", "processAllAvailable"],
        "Here it is called await_termination(timeout). With trigger=\"available_now\" (the default) the call waits by itself until everything is read.",
    ),
    ("Query", &["exception_", "error", "errors"], "Here it is called exception()."),
    ("Query", &["cancel", "kill", "close", "terminate", "pause"], "Here it is called stop()."),
    ("Query", &["progress", "metrics_", "state", "stateOperators"], "Here it is called last_progress."),
    ("Query", &["explain"], "Call explain() of the stream."),
    ("Query", &["restart", "start", "run"], "Run the cell that made the query again: it goes on where it stopped."),
    ("Query", &["table", "to_pandas", "read"], "Read the table: bayou.read_delta(target), or lake.read(\"name\")."),
    ("Pipeline", &["start", "execute", "update", "refresh", "launch"], "Here it is called run."),
    ("Pipeline", &["stop", "cancel"], "Stop the query of the run: lake.query.stop()."),
    (
        "Pipeline",
        &[
            "create_table",
            "create_streaming_table",
            "add_table",
            "write_delta",
            "materialized_view",
            "live_table",
            "dataset",
        ],
        "Here it is called table: lake.table(\"name\", stream), or @lake.table over a function.",
    ),
    (
        "Pipeline",
        &["view", "create_view", "temporary_view"],
        "A Stream is a view: keep it in a variable, or give it a name with stream.named(\"…\").",
    ),
    (
        "Pipeline",
        &["expect", "expect_or_drop", "expect_or_fail", "expect_all", "expect_all_or_drop", "expect_all_or_fail"],
        "Rules belong to the stream: stream.expect_or_drop(\"name\", \"condition\").",
    ),
    ("Pipeline", &["history"], "Write lake.sql(\"DESCRIBE HISTORY name\")."),
    ("Pipeline", &["show_tables", "list_tables", "show"], "Here it is called tables()."),
    (
        "Pipeline",
        &["readStream", "read_table", "dlt_read"],
        "Here it is called read_stream(\"name\") for the rows as they come, and read(\"name\") for the whole table.",
    ),
    (
        "Pipeline",
        &["status", "progress", "metrics"],
        "Ask the query of the run: lake.query.status, lake.query.last_progress.",
    ),
    (
        "Pipeline",
        &["drop", "delete", "drop_table"],
        "Write lake.reset(confirm=True) to empty the tables; files are removed outside bayou.",
    ),
    ("Pipeline", &["foreachBatch"], "Here it is called foreach_batch."),
    (
        "Pipeline",
        &["kafka", "write_kafka", "sink", "create_sink"],
        "Here it is called topic: lake.topic(\"name\", stream).",
    ),
    (
        "Pipeline",
        &["apply_changes", "create_auto_cdc_flow"],
        "Merging changes by key is not in this version. Write an aggregate with output_mode=\"update\": group_by(\"id\").agg(\"max_by(struct(name, city), ts) AS last\").",
    ),
    ("Connection", &["readStream", "read", "stream", "subscribe", "consumer"], "Here it is called read_stream."),
    ("Connection", &["list_topics", "topic_names", "metadata"], "Here it is called topics()."),
    ("Connection", &["send", "publish", "producer", "write"], "Here it is called produce."),
    (
        "Connection",
        &["poll", "consume", "messages"],
        "Look with peek(\"topic\"), or read with read_stream(\"topic\", …).batches().",
    ),
    (
        "Connection",
        &["flush"],
        "produce waits until the broker has acknowledged all messages: nothing is left to flush.",
    ),
    (
        "Connection",
        &["close", "disconnect", "stop", "shutdown"],
        "A connection holds nothing open that you need to close. Producers are closed after 30 idle seconds.",
    ),
    (
        "Connection",
        &["create_topics", "new_topic", "createTopic"],
        "Here it is called create_topic(\"name\", partitions=3).",
    ),
    ("Connection", &["delete_topics", "drop_topic", "deleteTopic"], "Here it is called delete_topic(\"name\")."),
    (
        "Connection",
        &["describe", "describe_topics", "partitions", "partitions_for"],
        "Here it is called describe_topic(\"name\").",
    ),
    ("Connection", &["schema", "schema_of", "inferSchema"], "Here it is called infer_schema(\"topic\")."),
    (
        "Connection",
        &["sql"],
        "Write bayou.sql(…) over tables; a topic becomes a table with read_stream(…).write_delta(…).",
    ),
    ("Connection", &["head", "tail", "show", "take"], "Here it is called peek(\"topic\", n=20)."),
    (
        "Preview",
        &["to_pandas", "toPandas", "to_polars", "to_arrow", "to_dicts", "columns", "row", "column", "head", "collect"],
        "The rows are a Table: preview.rows.",
    ),
    ("Preview", &["errors", "bad", "rejected", "quarantine"], "Here it is called malformed."),
    ("BatchIterator", &["next", "read"], "Write next(batches), or `for batch in batches:`."),
    ("BatchIterator", &["stop", "cancel"], "Here it is called close()."),
    (
        "Schema",
        &["fields", "fieldNames", "simpleString", "json", "jsonValue"],
        "A Schema has names, types, ddl and to_arrow().",
    ),
    ("ProduceReport", &["errors", "error"], "Here it is called failures."),
    (
        "ProduceReport",
        &["offsets", "result", "get"],
        "produce has waited for all messages. The report has delivered, failed and failures, and with deliveries=True the offset of each row.",
    ),
    (
        "bayou",
        &["col", "expr", "lit", "F", "column", "udf", "pandas_udf", "when"],
        "Expressions are SQL text: stream.select(\"heart_bpm AS bpm\"), stream.where(\"bpm > 0\"). bayou.functions() lists the functions; a Python function goes into map_batches.",
    ),
    (
        "bayou",
        &[
            "read_stream",
            "readStream",
            "read_kafka",
            "from_kafka",
            "Consumer",
            "KafkaConsumer",
            "DeserializingConsumer",
        ],
        "Connect first: kafka = bayou.connect(\"host:9092\"); kafka.read_stream(\"topic\", schema=…).",
    ),
    (
        "bayou",
        &["Producer", "KafkaProducer", "produce", "SerializingProducer"],
        "Connect first: kafka = bayou.connect(\"host:9092\"); kafka.produce(\"topic\", rows).",
    ),
    (
        "bayou",
        &["AdminClient", "KafkaAdminClient", "create_topic", "topics"],
        "Connect first: kafka = bayou.connect(\"host:9092\"); kafka.topics(), kafka.create_topic(\"name\").",
    ),
    (
        "bayou",
        &[
            "table",
            "view",
            "expect",
            "expect_or_drop",
            "expect_or_fail",
            "expect_all",
            "read",
            "create_streaming_table",
            "apply_changes",
        ],
        "Rules are methods of a Stream, tables belong to a Pipeline: lake = bayou.Pipeline(\"name\", \"root\"); lake.table(\"name\", stream.expect_or_drop(…)).",
    ),
    (
        "bayou",
        &["spark", "SparkSession", "DataFrame"],
        "bayou needs no session. Begin with bayou.connect(…), bayou.read_delta(…) or bayou.sql(…).",
    ),
    ("bayou", &["read_table", "read_parquet", "scan_delta"], "Here it is called read_delta."),
    (
        "bayou",
        &["write_delta", "write_deltalake"],
        "It is a method of a Stream: kafka.read_stream(…).write_delta(target). Rows in memory are written by the package deltalake.",
    ),
    (
        "bayou",
        &["from_pandas", "from_arrow", "from_polars", "from_dicts", "createDataFrame", "from_records"],
        "Here it is called from_batches, for rows of any kind.",
    ),
    ("bayou", &["tumbling", "TumblingWindow", "tumble"], "Here it is called window(\"time\", \"5 minutes\")."),
];

pub(super) fn neighbour(name: &str) -> Option<&'static str> {
    ARGUMENTS.iter().find(|(n, _)| *n == name).map(|(_, right)| *right)
}

/// The sentence for a word of a neighbouring system, or the nearest name of `known`, with a space in front.
pub(super) fn hint<'a>(class: &str, name: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    let listed = ATTRIBUTES.iter().find(|(of, words, _)| *of == class && words.contains(&name));
    match listed {
        Some((_, _, sentence)) => format!(" {sentence}"),
        None => crate::error::did_you_mean(name, known),
    }
}

/// The error for an attribute that is not there.
pub(super) fn no_attribute(of: &Bound<'_, PyAny>, class: &str, name: &str) -> PyErr {
    // IPython and others ask objects for private names all the time.
    let hint = if name.starts_with('_') {
        String::new()
    } else {
        let names = of.get_type().dir().and_then(|d| d.extract::<Vec<String>>()).unwrap_or_default();
        hint(class, name, names.iter().map(String::as_str).filter(|n| !n.starts_with('_')))
    };
    raised(of.py(), &format!("'{class}' has no attribute '{name}'.{hint}"), name)
}

/// Python itself adds "Did you mean" to an AttributeError that knows its object.
fn raised(py: Python<'_>, text: &str, name: &str) -> PyErr {
    let made = || {
        let about = PyDict::new(py);
        about.set_item("name", name)?;
        about.set_item("obj", py.None())?;
        py.get_type::<PyAttributeError>().call((text,), Some(&about))
    };
    made().map_or_else(|e| e, PyErr::from_value)
}

/// bayou's word for a word of a neighbouring system, for the Python part of bayou.
#[pyfunction]
fn _neighbour(name: &str) -> Option<&'static str> {
    neighbour(name)
}

/// The AttributeError for a name that a class of the Python part, or the module itself, does not have.
#[pyfunction]
fn _no_attribute(py: Python<'_>, class_: &str, name: &str, known: Vec<String>) -> Py<PyAny> {
    let hint = hint(class_, name, known.iter().map(String::as_str));
    let of = if class_ == "bayou" { "module 'bayou'".to_string() } else { format!("'{class_}'") };
    raised(py, &format!("{of} has no attribute '{name}'.{hint}"), name).into_value(py).into_any()
}

/// The words with hints: (class, word).
#[pyfunction]
fn _words() -> Vec<(&'static str, &'static str)> {
    ATTRIBUTES.iter().flat_map(|(class, words, _)| words.iter().map(|w| (*class, *w))).collect()
}

pub(super) fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_function(wrap_pyfunction!(_neighbour, m)?)?;
    m.add_function(wrap_pyfunction!(_no_attribute, m)?)?;
    m.add_function(wrap_pyfunction!(_words, m)?)
}
