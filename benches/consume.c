/* What librdkafka can deliver and no more: batches of messages, taken and thrown away.
 *
 * bench.py compiles this and links it to the librdkafka that the confluent-kafka wheel carries. The declarations are our own:
 * the wheel has no headers. They are part of librdkafka's stable ABI.
 *
 *     consume TOPIC PARTITIONS property=value ...
 *
 * Prints "messages seconds version". The clock runs from the first message to the last end-of-partition.
 */
#define _POSIX_C_SOURCE 200809L
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

typedef struct {
    int err;
    void *topic;
    int32_t partition;
    void *payload;
    size_t len;
    void *key;
    size_t key_len;
    int64_t offset;
    void *private_;
} message_t;

enum { CONSUMER = 1, CONF_OK = 0, END_OF_PARTITION = -191, BEGINNING = -2, BATCH = 10000 };

extern void *rd_kafka_conf_new(void);
extern int rd_kafka_conf_set(void *, const char *, const char *, char *, size_t);
extern void *rd_kafka_new(int, void *, char *, size_t);
extern int rd_kafka_poll_set_consumer(void *);
extern void *rd_kafka_queue_get_consumer(void *);
extern void *rd_kafka_topic_partition_list_new(int);
extern void *rd_kafka_topic_partition_list_add(void *, const char *, int32_t);
extern int rd_kafka_topic_partition_list_set_offset(void *, const char *, int32_t, int64_t);
extern int rd_kafka_assign(void *, const void *);
extern ptrdiff_t rd_kafka_consume_batch_queue(void *, int, message_t **, size_t);
extern void rd_kafka_message_destroy(message_t *);
extern const char *rd_kafka_err2str(int);
extern const char *rd_kafka_version_str(void);

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void fail(const char *what, const char *why) {
    fprintf(stderr, "%s: %s\n", what, why);
    exit(1);
}

int main(int argc, char **argv) {
    static message_t *room[BATCH];
    char text[512];
    if (argc < 3)
        fail("consume", "TOPIC PARTITIONS property=value ...");
    const char *topic = argv[1];
    int open = atoi(argv[2]);

    void *conf = rd_kafka_conf_new();
    for (int i = 3; i < argc; i++) {
        char *value = strchr(argv[i], '=');
        if (!value)
            fail(argv[i], "not property=value");
        *value++ = 0;
        if (rd_kafka_conf_set(conf, argv[i], value, text, sizeof text) != CONF_OK)
            fail(argv[i], text);
    }
    void *client = rd_kafka_new(CONSUMER, conf, text, sizeof text);
    if (!client)
        fail("rd_kafka_new", text);
    rd_kafka_poll_set_consumer(client);
    void *queue = rd_kafka_queue_get_consumer(client);
    void *list = rd_kafka_topic_partition_list_new(open);
    for (int p = 0; p < open; p++) {
        rd_kafka_topic_partition_list_add(list, topic, p);
        rd_kafka_topic_partition_list_set_offset(list, topic, p, BEGINNING);
    }
    int refused = rd_kafka_assign(client, list);
    if (refused)
        fail("rd_kafka_assign", rd_kafka_err2str(refused));

    long messages = 0;
    double first = 0, deadline = now() + 300;
    while (open > 0) {
        ptrdiff_t count = rd_kafka_consume_batch_queue(queue, 100, room, BATCH);
        if (count > 0 && first == 0)
            first = now();
        for (ptrdiff_t i = 0; i < count; i++) {
            if (room[i]->err == 0)
                messages++;
            else if (room[i]->err == END_OF_PARTITION)
                open--;
            else
                fail("message", rd_kafka_err2str(room[i]->err));
            rd_kafka_message_destroy(room[i]);
        }
        if (now() > deadline)
            fail("consume", "not finished within 300 s");
    }
    double seconds = now() - first;
    printf("%ld %.6f %s\n", messages, seconds, rd_kafka_version_str());
    /* Nothing is closed: the process ends, and closing would only take time. */
    fflush(stdout);
    _Exit(0);
}
