"""Random typed expressions, compared with the answers of a real Spark 4.0. `make spark-check` records and compares 5,000; here is a slice."""

from __future__ import annotations

import json

import spark_check


def test_random_expressions_have_the_answers_of_a_real_spark() -> None:
    answers = [json.loads(line) for line in spark_check.SLICE.read_text().splitlines()]
    assert len(answers) >= 400
    wrong = spark_check.compare(answers)
    assert not wrong, "\n".join(wrong)
