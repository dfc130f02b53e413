/* Assertions of the C tests: the first one that does not hold ends the program. */

#ifndef KASMINA_TESTS_CHECK_H
#define KASMINA_TESTS_CHECK_H

#include <kasmina/kasmina.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The condition holds. */
#define CHECK(condition)                                                                                               \
    do {                                                                                                               \
        if (!(condition)) {                                                                                            \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition);                                            \
            exit(1);                                                                                                   \
        }                                                                                                              \
    } while (0)

/* The call, which is given &error, succeeds and gives no error. */
#define OK(call) FAILS(KASMINA_STATUS_OK, call)

/* The call, which is given &error, fails with this status and an error that says so in words. */
#define FAILS(expected, call)                                                                                          \
    do {                                                                                                               \
        kasmina_error* error = (kasmina_error*)16; /* must be overwritten, even on success */                          \
        kasmina_status found_status = (call);                                                                          \
        check_outcome(expected, found_status, error, #call, __LINE__);                                                 \
    } while (0)

static inline void check_outcome(kasmina_status expected, kasmina_status status, kasmina_error* error, const char* call,
                                 int line) {
    const char* message = kasmina_error_message(error);
    int said = expected == KASMINA_STATUS_OK ? error == NULL : error != NULL && *message != 0;
    if (status != expected || kasmina_error_status(error) != expected || !said) {
        fprintf(stderr, "line %d: %s gave status %d, not %d: %s\n", line, call, (int)status, (int)expected, message);
        exit(1);
    }
    kasmina_error_destroy(error);
}

/* A dense tensor on the CPU. `shape` must outlive it. */
static inline kasmina_tensor tensor(void* data, kasmina_data_type type, int32_t rank, const int64_t* shape) {
    kasmina_tensor result;
    memset(&result, 0, sizeof result);
    result.struct_size = sizeof result;
    result.data = data;
    result.data_type = type;
    result.device_type = KASMINA_DEVICE_TYPE_CPU;
    result.rank = rank;
    result.shape = shape;
    return result;
}

#endif
