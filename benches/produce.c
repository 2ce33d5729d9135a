/* What librdkafka's transactional producer can send and no more: messages of the size of a cleaned event, with the two headers that
 * bayou's messages carry. Headers more than double what a message costs librdkafka.
 *
 * bench.py compiles this and links it to the librdkafka that the confluent-kafka wheel carries. The declarations are our own:
 * the wheel has no headers. They are part of librdkafka's stable ABI.
 *
 *     produce TOPIC MESSAGES property=value ...
 *
 * Prints "messages seconds version". The clock runs from the first message to the end of the last transaction.
 */
#define _POSIX_C_SOURCE 200809L
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { PRODUCER = 0, CONF_OK = 0, UNASSIGNED = -1, COPY = 2, QUEUE_FULL = -184, PER_TRANSACTION = 500000 };
/* The arguments of rd_kafka_producev. */
enum { END = 0, TOPIC = 2, PARTITION = 3, VALUE = 4, FLAGS = 7, HEADERS = 10 };

extern void *rd_kafka_conf_new(void);
extern int rd_kafka_conf_set(void *, const char *, const char *, char *, size_t);
extern void *rd_kafka_new(int, void *, char *, size_t);
extern void *rd_kafka_topic_new(void *, const char *, void *);
extern int rd_kafka_producev(void *, ...);
extern void *rd_kafka_headers_new(size_t);
extern int rd_kafka_header_add(void *, const char *, ptrdiff_t, const void *, ptrdiff_t);
extern void *rd_kafka_headers_copy(void *);
extern void rd_kafka_headers_destroy(void *);
extern int rd_kafka_poll(void *, int);
extern void *rd_kafka_init_transactions(void *, int);
extern void *rd_kafka_begin_transaction(void *);
extern void *rd_kafka_commit_transaction(void *, int);
extern const char *rd_kafka_error_string(const void *);
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

static void check(const char *what, void *error) {
    if (error)
        fail(what, rd_kafka_error_string(error));
}

int main(int argc, char **argv) {
    char text[512];
    if (argc < 3)
        fail("produce", "TOPIC MESSAGES property=value ...");
    long count = atol(argv[2]);
    void *conf = rd_kafka_conf_new();
    for (int i = 3; i < argc; i++) {
        char *value = strchr(argv[i], '=');
        if (!value)
            fail(argv[i], "not property=value");
        *value++ = 0;
        if (rd_kafka_conf_set(conf, argv[i], value, text, sizeof text) != CONF_OK)
            fail(argv[i], text);
    }
    void *client = rd_kafka_new(PRODUCER, conf, text, sizeof text);
    if (!client)
        fail("rd_kafka_new", text);
    void *topic = rd_kafka_topic_new(client, argv[1], NULL);
    void *headers = rd_kafka_headers_new(2);
    rd_kafka_header_add(headers, "bayou-epoch", -1, "0", -1);
    rd_kafka_header_add(headers, "bayou-query", -1, "bench/bench/3f2504e0-4f89-11d3-9a0c-0305e82c3301", -1);
    check("init_transactions", rd_kafka_init_transactions(client, 60000));
    double began = now();
    for (long sent = 0; sent < count;) {
        check("begin_transaction", rd_kafka_begin_transaction(client));
        for (long i = 0; i < PER_TRANSACTION && sent < count; i++, sent++) {
            int length = snprintf(text, sizeof text, "{\"time\":\"2024-01-31T%02ld:%02ld:%02ld.%06ldZ\",\"bpm\":%ld,\"model\":\"runner-%ld\"}",
                                  sent / 3600 % 24, sent / 60 % 60, sent % 60, sent % 1000000, 60 + sent % 120, sent % 8);
            for (;;) {
                void *copy = rd_kafka_headers_copy(headers);
                int refused = rd_kafka_producev(client, TOPIC, topic, PARTITION, UNASSIGNED, FLAGS, COPY, VALUE, text, (size_t)length,
                                                HEADERS, copy, END);
                if (!refused)
                    break;
                rd_kafka_headers_destroy(copy);
                if (refused != QUEUE_FULL)
                    fail("produce", rd_kafka_err2str(refused));
                rd_kafka_poll(client, 5);
            }
            if (i % 1000 == 0)
                rd_kafka_poll(client, 0);
        }
        check("commit_transaction", rd_kafka_commit_transaction(client, -1));
    }
    printf("%ld %.6f %s\n", count, now() - began, rd_kafka_version_str());
    return 0;
}
