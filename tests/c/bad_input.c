/* Everything that can be wrong with an argument is an error that says so, and nothing crashes. */

#include "calls.h"

#include <pthread.h>
#include <stdatomic.h>
#include <time.h>

/* ---- handles ---- */

/* Every function that takes a handle refuses one that is zero, forged, of another kind, or stale. */
static void check_bad_handles(world* w) {
    kasmina_layer stale_layer;
    kasmina_blueprint stale_blueprint;
    kasmina_memory stale_memory;
    kasmina_snapshot stale_snapshot;
    const kasmina_layer_config config = good_config();
    OK(kasmina_layer_create(&config, &stale_layer, &error));
    OK(kasmina_layer_destroy(stale_layer, &error));
    OK(kasmina_blueprint_from_library("residual", CHUNK, NULL, &stale_blueprint, &error));
    OK(kasmina_blueprint_destroy(stale_blueprint, &error));
    OK(kasmina_memory_retain(w->memory, &stale_memory, &error));
    OK(kasmina_memory_release(stale_memory, &error));
    OK(kasmina_snapshot_create(w->layer, NULL, &stale_snapshot, &error));
    OK(kasmina_snapshot_destroy(stale_snapshot, &error));

    const uint64_t generation = (uint64_t)1 << 24;
    const uint64_t layers[] = {0,
                               1,
                               UINT64_MAX,
                               w->blueprint.id,
                               w->memory.id,
                               stale_layer.id,
                               w->layer.id + 77,
                               w->layer.id + 9 * generation};
    const uint64_t blueprints[] = {0,
                                   2,
                                   UINT64_MAX - 1,
                                   w->layer.id,
                                   w->memory.id,
                                   stale_blueprint.id,
                                   w->blueprint.id + 77,
                                   w->blueprint.id + 9 * generation};
    const uint64_t memories[] = {0,
                                 3,
                                 UINT64_MAX / 2,
                                 w->layer.id,
                                 w->blueprint.id,
                                 stale_memory.id,
                                 w->memory.id + 77,
                                 w->memory.id + 9 * generation};
    const uint64_t snapshots[] = {0,
                                  4,
                                  UINT64_MAX / 3,
                                  w->layer.id,
                                  w->memory.id,
                                  stale_snapshot.id,
                                  w->snapshot.id + 77,
                                  w->snapshot.id + 9 * generation};
    for (size_t i = 0; i < sizeof layers / sizeof *layers; ++i) {
        for (const call* call = CALLS; call < CALLS + CALL_COUNT; ++call) {
            world bad = *w;
            bad.layer.id = call->takes & LAYER ? layers[i] : bad.layer.id;
            bad.blueprint.id = call->takes & BLUEPRINT ? blueprints[i] : bad.blueprint.id;
            bad.memory.id = call->takes & MEMORY ? memories[i] : bad.memory.id;
            bad.snapshot.id = call->takes & SNAPSHOT && !(call->takes & LAYER) ? snapshots[i] : bad.snapshot.id;
            if (call->takes != NOTHING) {
                expect_call(call, &bad, KASMINA_STATUS_INVALID_HANDLE);
            }
            if ((call->takes & LAYER) && (call->takes & SNAPSHOT)) {
                bad = *w;
                bad.snapshot.id = snapshots[i];
                expect_call(call, &bad, KASMINA_STATUS_INVALID_HANDLE);
            }
            if (call->takes & OTHER_BLUEPRINT) {
                bad = *w;
                bad.other_blueprint.id = blueprints[i];
                expect_call(call, &bad, KASMINA_STATUS_INVALID_HANDLE);
            }
        }
    }
}

/* ---- null pointers and structs ---- */

static void check_null_pointers(const world* w) {
    const kasmina_status invalid = KASMINA_STATUS_INVALID_ARGUMENT;
    const kasmina_layer_config config = good_config();
    kasmina_blueprint blueprint;
    kasmina_layer layer;
    kasmina_memory memory;
    kasmina_tensor exported = {.struct_size = sizeof exported};
    double number;
    FAILS(invalid, kasmina_blueprint_from_json(JSON, strlen(JSON), NULL, &error));
    FAILS(invalid, kasmina_blueprint_from_json(NULL, 7, &blueprint, &error));
    FAILS(KASMINA_STATUS_MALFORMED_BLUEPRINT, kasmina_blueprint_from_json(NULL, 0, &blueprint, &error));
    FAILS(invalid, kasmina_blueprint_from_library("mlp", CHUNK, NULL, NULL, &error));
    FAILS(invalid, kasmina_blueprint_from_library(NULL, CHUNK, NULL, &blueprint, &error));
    FAILS(invalid, kasmina_blueprint_to_json(w->blueprint, NULL, &error));
    FAILS(invalid, kasmina_blueprint_hash(w->blueprint, NULL, &error));
    FAILS(invalid, kasmina_blueprint_chunk(w->blueprint, NULL, &error));
    FAILS(invalid, kasmina_blueprint_parameter_count(w->blueprint, NULL, &error));
    FAILS(invalid, kasmina_blueprint_initial_values(w->blueprint, 1, NULL, CHUNK + 1, &error));
    FAILS(invalid, kasmina_blueprint_initial_values(w->blueprint, 1, &number, 1, &error));
    FAILS(invalid, kasmina_layer_create(NULL, &layer, &error));
    FAILS(invalid, kasmina_layer_create(&config, NULL, &error));
    FAILS(invalid, kasmina_layer_get_info(w->layer, NULL, &error));
    FAILS(invalid, kasmina_layer_add_blueprint(w->layer, w->other_blueprint, 1, NULL, &error));
    FAILS(invalid, kasmina_layer_state(w->layer, NULL, &error));
    FAILS(invalid, kasmina_layer_report(w->layer, NULL, &error));
    FAILS(invalid, kasmina_layer_save(w->layer, NULL, NULL, &error));
    FAILS(invalid, kasmina_layer_load(NULL, KASMINA_DEVICE_TYPE_CPU, 0, &layer, &error));
    FAILS(invalid, kasmina_layer_load(CHECKPOINT, KASMINA_DEVICE_TYPE_CPU, 0, NULL, &error));
    FAILS(invalid, kasmina_layer_to_bytes(w->layer, NULL, NULL, &error));
    FAILS(invalid, kasmina_layer_from_bytes(NULL, 7, KASMINA_DEVICE_TYPE_CPU, 0, &layer, &error));
    FAILS(KASMINA_STATUS_FILE_CORRUPTED, kasmina_layer_from_bytes(NULL, 0, KASMINA_DEVICE_TYPE_CPU, 0, &layer, &error));
    FAILS(invalid, kasmina_layer_submit(w->layer, NULL, 1, &error));
    OK(kasmina_layer_submit(w->layer, NULL, 0, &error));
    FAILS(invalid, kasmina_layer_export_array(w->layer, 0, NULL, &exported, &error));
    FAILS(invalid, kasmina_layer_export_array(w->layer, 0, &memory, NULL, &error));
    FAILS(invalid, kasmina_layer_export_bank(w->layer, 0, 0, NULL, &exported, &error));
    FAILS(invalid, kasmina_layer_export_bank(w->layer, 0, 0, &memory, NULL, &error));
    FAILS(invalid, kasmina_memory_retain(w->memory, NULL, &error));
    FAILS(invalid, kasmina_snapshot_create(w->layer, NULL, NULL, &error));
    FAILS(invalid, kasmina_snapshot_get_info(w->snapshot, NULL, &error));
    kasmina_loss_guard guard = {.struct_size = sizeof guard};
    kasmina_bytes* reason;
    FAILS(invalid, kasmina_loss_guard_judge(NULL, 1.0, &reason, &error));
    FAILS(invalid, kasmina_loss_guard_judge(&guard, 1.0, NULL, &error));
    CHECK(guard.accepted == 0);
    FAILS(invalid, kasmina_layer_forward(w->layer, NULL, NULL, &error));
    FAILS(invalid, kasmina_layer_backward(w->layer, NULL, NULL, &error));
    FAILS(invalid, kasmina_layer_train(w->layer, NULL, NULL, &error));
    FAILS(invalid, kasmina_layer_adamw(w->layer, NULL, NULL, &error));
    FAILS(invalid, kasmina_get_statistics(NULL, &error));

    CHECK(kasmina_error_status(NULL) == KASMINA_STATUS_OK && kasmina_error_message(NULL)[0] == 0);
    CHECK(kasmina_error_get_class(NULL) == 0);
    kasmina_error* why = NULL;
    CHECK(kasmina_blueprint_from_json(NULL, 0, &blueprint, &why) != KASMINA_STATUS_OK);
    CHECK(kasmina_error_get_class(why) == KASMINA_ERROR_CLASS_VALIDATION);
    kasmina_error_destroy(why);
    CHECK(kasmina_error_attachment_count(NULL) == 0 && kasmina_error_attachment_name(NULL, 0) == NULL);
    CHECK(kasmina_bytes_data(NULL) == NULL && kasmina_bytes_length(NULL) == 0);
    kasmina_error_destroy(NULL);
    kasmina_bytes_destroy(NULL);

    /* The error is optional everywhere, and what a failed call gives is left alone. */
    layer.id = 42;
    CHECK(kasmina_layer_create(NULL, &layer, NULL) == invalid && layer.id == 42);
}

/* A caller compiled with another version of the header. */
static void check_struct_sizes(const world* w) {
    struct {
        kasmina_layer_config config;
        uint64_t later[4];
    } grown = {.config = good_config()};
    kasmina_layer layer;
    const size_t wrong[] = {0, 1, sizeof grown.config - 1, 4097, SIZE_MAX};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; ++i) {
        grown.config.struct_size = wrong[i];
        FAILS(KASMINA_STATUS_INVALID_ARGUMENT, kasmina_layer_create(&grown.config, &layer, &error));
    }
    grown.config.struct_size = sizeof grown;
    OK(kasmina_layer_create(&grown.config, &layer, &error));
    OK(kasmina_layer_destroy(layer, &error));
    grown.later[3] = 1;
    FAILS(KASMINA_STATUS_UNSUPPORTED, kasmina_layer_create(&grown.config, &layer, &error));

    struct {
        kasmina_layer_info info;
        uint64_t later;
    } info = {.info = {.struct_size = sizeof info}, .later = 7};
    OK(kasmina_layer_get_info(w->layer, &info.info, &error));
    CHECK(info.info.struct_size == sizeof info && info.info.hidden == HIDDEN && info.later == 0);
    info.info.struct_size = 8;
    FAILS(KASMINA_STATUS_INVALID_ARGUMENT, kasmina_layer_get_info(w->layer, &info.info, &error));

    /* An array of structs is walked by their own size. */
    struct {
        kasmina_command command;
        uint64_t later;
    } commands[2] = {{.command = good_command()}, {.command = good_command()}};
    commands[0].command.struct_size = sizeof *commands;
    FAILS(KASMINA_STATUS_INVALID_ARGUMENT, kasmina_layer_submit(w->layer, &commands[0].command, 2, &error));
    commands[1].command.struct_size = sizeof *commands;
    commands[1].command.seed = SEEDS;
    FAILS(KASMINA_STATUS_INVALID_ARGUMENT, kasmina_layer_submit(w->layer, &commands[0].command, 2, &error));
    FAILS(KASMINA_STATUS_INVALID_ARGUMENT, kasmina_layer_submit(w->layer, &commands[0].command, SIZE_MAX / 8, &error));
}

/* ---- numbers that are not what they claim to be ---- */

static void check_forged_numbers(const world* w) {
    const kasmina_status invalid = KASMINA_STATUS_INVALID_ARGUMENT;
    const int32_t forged[] = {-1, 99, INT32_MAX, INT32_MIN};
    kasmina_layer layer;
    kasmina_memory memory;
    kasmina_tensor exported = {.struct_size = sizeof exported};
    for (size_t i = 0; i < sizeof forged / sizeof *forged; ++i) {
        kasmina_layer_config config = good_config();
        config.device_type = forged[i];
        FAILS(invalid, kasmina_layer_create(&config, &layer, &error));
        config = good_config();
        config.parameter_type = forged[i];
        FAILS(invalid, kasmina_layer_create(&config, &layer, &error));
        kasmina_command command = good_command();
        command.action = forged[i];
        FAILS(invalid, kasmina_layer_submit(w->layer, &command, 1, &error));
        command = good_command();
        command.blueprint = forged[i];
        FAILS(invalid, kasmina_layer_submit(w->layer, &command, 1, &error));
        FAILS(invalid, kasmina_layer_prepare(w->layer, forged[i], 0, &error));
        FAILS(invalid, kasmina_layer_export_array(w->layer, forged[i], &memory, &exported, &error));
        FAILS(invalid, kasmina_layer_export_bank(w->layer, 0, forged[i], &memory, &exported, &error));
        FAILS(invalid, kasmina_layer_export_bank(w->layer, (uint32_t)forged[i], 0, &memory, &exported, &error));
        FAILS(invalid, kasmina_set_log(ignore_log, NULL, forged[i], &error));
    }
    kasmina_layer_config config = good_config();
    config.device_type = 0;
    FAILS(invalid, kasmina_layer_create(&config, &layer, &error));
    config.device_type = KASMINA_DEVICE_TYPE_CUDA;
    config.device_index = -1;
    FAILS(invalid, kasmina_layer_create(&config, &layer, &error));
    config = good_config();
    config.parameter_type = KASMINA_DATA_TYPE_I32;
    FAILS(KASMINA_STATUS_TYPE_MISMATCH, kasmina_layer_create(&config, &layer, &error));
    config = good_config();
    config.flags = 1;
    FAILS(KASMINA_STATUS_UNSUPPORTED, kasmina_layer_create(&config, &layer, &error));
    const uint64_t sizes[][2] = {{0, 1}, {8, 0}, {1, 2}, {8, UINT64_MAX}, {8, (uint64_t)1 << 32}};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; ++i) {
        config = good_config();
        config.hidden = sizes[i][0];
        config.seeds = sizes[i][1];
        FAILS(invalid, kasmina_layer_create(&config, &layer, &error));
    }
    const char* settings[] = {"", "{", "7", "{\"ramp_steps\": -1}", "{\"no such setting\": 1}", "\xff"};
    for (size_t i = 0; i < sizeof settings / sizeof *settings; ++i) {
        config = good_config();
        config.settings = settings[i];
        FAILS(invalid, kasmina_layer_create(&config, &layer, &error));
    }
    FAILS(KASMINA_STATUS_UNSUPPORTED, kasmina_layer_prepare(w->layer, KASMINA_DATA_TYPE_F32, 1024, &error));
    FAILS(invalid, kasmina_layer_restore(w->layer, w->snapshot, "\xff\xfe", NULL, NULL, &error));
    kasmina_loss_guard guard = {.struct_size = sizeof guard, .decay = 2.0};
    kasmina_bytes* reason;
    FAILS(invalid, kasmina_loss_guard_judge(&guard, 1.0, &reason, &error));
    OK(kasmina_layer_set_time(w->layer, 7.5, &error));
    FAILS(invalid, kasmina_layer_set_time(w->layer, 7.0, &error));
    FAILS(invalid, kasmina_layer_set_time(w->layer, NAN, &error));
    FAILS(invalid, kasmina_layer_roll_back(w->layer, SEEDS, NULL, NULL, &error));
    FAILS(invalid, kasmina_layer_roll_back(w->layer, 0, "\xff\xfe", NULL, &error));
    FAILS(KASMINA_STATUS_TRANSITION_REFUSED, kasmina_layer_roll_back(w->layer, 0, NULL, NULL, &error));
    kasmina_command command = good_command();
    command.action = KASMINA_ACTION_FOSSILISE;
    FAILS(KASMINA_STATUS_TRANSITION_REFUSED, kasmina_layer_submit(w->layer, &command, 1, &error));
    command = good_command();
    command.reason = "\xc3\x28";
    FAILS(invalid, kasmina_layer_submit(w->layer, &command, 1, &error));
    uint32_t index;
    FAILS(invalid, kasmina_layer_add_blueprint(w->layer, w->other_blueprint, 0, &index, &error));
    FAILS(invalid, kasmina_layer_add_blueprint(w->layer, w->other_blueprint, UINT64_MAX, &index, &error));
}

static void check_documents(void) {
    kasmina_blueprint blueprint;
    kasmina_layer layer;
    const struct {
        kasmina_status status;
        const char* json;
    } bad[] = {
        {KASMINA_STATUS_MALFORMED_BLUEPRINT, ""},
        {KASMINA_STATUS_MALFORMED_BLUEPRINT, "{"},
        {KASMINA_STATUS_MALFORMED_BLUEPRINT, "null"},
        {KASMINA_STATUS_MALFORMED_BLUEPRINT, "[[[[[[[[[[[[[["},
        {KASMINA_STATUS_MALFORMED_BLUEPRINT, "\xff\xfe\x00\x01"},
        {KASMINA_STATUS_MALFORMED_BLUEPRINT, "{\"ir_version\": 1, \"name\": \"n\", \"chunk\": -4, \"nodes\": []}"},
        {KASMINA_STATUS_UNSUPPORTED, "{\"ir_version\": 2}"},
        {KASMINA_STATUS_INVALID_BLUEPRINT,
         "{\"ir_version\": 1, \"name\": \"n\", \"chunk\": 4, \"nodes\": [], \"output\": \"y\"}"},
        {KASMINA_STATUS_INVALID_BLUEPRINT,
         "{\"ir_version\": 1, \"name\": \"n\", \"chunk\": 4, \"nodes\": [{\"name\": \"y\", \"op\": \"explode\", "
         "\"inputs\": [\"x\"]}], \"output\": \"y\"}"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; ++i) {
        FAILS(bad[i].status, kasmina_blueprint_from_json(bad[i].json, strlen(bad[i].json), &blueprint, &error));
    }
    /* Every beginning of a good one. */
    for (size_t length = 0; length < strlen(JSON); ++length) {
        FAILS(KASMINA_STATUS_MALFORMED_BLUEPRINT, kasmina_blueprint_from_json(JSON, length, &blueprint, &error));
    }
    FAILS(KASMINA_STATUS_INVALID_ARGUMENT, kasmina_blueprint_from_library("no such", 4, NULL, &blueprint, &error));
    FAILS(KASMINA_STATUS_INVALID_ARGUMENT, kasmina_blueprint_from_library("\xff", 4, NULL, &blueprint, &error));
    FAILS(KASMINA_STATUS_INVALID_ARGUMENT, kasmina_blueprint_from_library("mlp", 4, "[", &blueprint, &error));
    FAILS(KASMINA_STATUS_INVALID_ARGUMENT, kasmina_blueprint_from_library("mlp", 4, "{\"a\": 1}", &blueprint, &error));
    CHECK(kasmina_blueprint_from_library("mlp", 0, NULL, &blueprint, NULL) != KASMINA_STATUS_OK);
    CHECK(kasmina_blueprint_from_library("bottleneck", UINT64_MAX, NULL, &blueprint, NULL) != KASMINA_STATUS_OK);

    FAILS(KASMINA_STATUS_FILE_CORRUPTED,
          kasmina_layer_from_bytes("not a checkpoint", 16, KASMINA_DEVICE_TYPE_CPU, 0, &layer, &error));
    FAILS(KASMINA_STATUS_STORAGE_FAILED,
          kasmina_layer_load("/no/such/file", KASMINA_DEVICE_TYPE_CPU, 0, &layer, &error));
}

/* ---- tensors ---- */

static void forward_fails(const world* w, kasmina_status status, const kasmina_tensor* x, const kasmina_tensor* y) {
    kasmina_forward forward = good_forward(w);
    forward.x = x;
    forward.y = y;
    FAILS(status, kasmina_layer_forward(w->layer, &forward, NULL, &error));
}

static void check_tensors(const world* w) {
    const kasmina_status shape = KASMINA_STATUS_SHAPE_MISMATCH;
    kasmina_tensor bad = w->x_tensor;
    forward_fails(w, KASMINA_STATUS_INVALID_ARGUMENT, NULL, &w->y_tensor);
    forward_fails(w, KASMINA_STATUS_INVALID_ARGUMENT, NULL, NULL);

    const struct {
        kasmina_status status;
        int32_t rank;
        int64_t shape[4], strides[4];
    } layouts[] = {
        {shape, 2, {ROWS, HIDDEN - 1}, {HIDDEN, 1}},
        {shape, 2, {ROWS, HIDDEN + 1}, {HIDDEN, 1}},
        {shape, 2, {-1, HIDDEN}, {HIDDEN, 1}},
        {shape, 2, {ROWS, -HIDDEN}, {HIDDEN, 1}},
        {shape, 2, {ROWS, HIDDEN}, {-HIDDEN, 1}},
        {shape, 2, {ROWS, HIDDEN}, {HIDDEN, -1}},
        {shape, 4, {2, 2, 2, HIDDEN}, {16 * HIDDEN, 6 * HIDDEN, HIDDEN, 1}},
        {shape, 2, {INT64_MAX, HIDDEN}, {HIDDEN, 1}},
        {shape, 2, {ROWS, HIDDEN}, {INT64_MAX, 1}},
        {shape, 4, {INT64_MAX, INT64_MAX, INT64_MAX, HIDDEN}, {0, 0, 0, 1}},
        {shape, 3, {2, 2, HIDDEN}, {HIDDEN, HIDDEN, 1}},
        {shape, 0, {0}, {0}},
        {shape, -1, {0}, {0}},
        {shape, 17, {0}, {0}},
        {shape, INT32_MIN, {0}, {0}},
    };
    for (size_t i = 0; i < sizeof layouts / sizeof *layouts; ++i) {
        bad = w->x_tensor;
        bad.rank = layouts[i].rank;
        bad.shape = layouts[i].shape;
        bad.strides = layouts[i].strides;
        forward_fails(w, layouts[i].status, &bad, &w->y_tensor);
        forward_fails(w, layouts[i].status, &w->x_tensor, &bad);
    }

    const int32_t forged[] = {-1, 12, INT32_MAX};
    for (size_t i = 0; i < sizeof forged / sizeof *forged; ++i) {
        bad = w->x_tensor;
        bad.data_type = forged[i];
        forward_fails(w, KASMINA_STATUS_INVALID_ARGUMENT, &bad, &w->y_tensor);
        bad = w->x_tensor;
        bad.device_type = forged[i];
        forward_fails(w, KASMINA_STATUS_INVALID_ARGUMENT, &bad, &w->y_tensor);
    }
    const kasmina_data_type types[] = {KASMINA_DATA_TYPE_I32, KASMINA_DATA_TYPE_BOOL, KASMINA_DATA_TYPE_F64};
    for (size_t i = 0; i < sizeof types / sizeof *types; ++i) {
        static double room[ROWS * HIDDEN];
        bad = tensor(room, types[i], 2, ROWS_SHAPE);
        forward_fails(w, KASMINA_STATUS_TYPE_MISMATCH, &bad, &bad);
        forward_fails(w, KASMINA_STATUS_TYPE_MISMATCH, &bad, NULL);
        forward_fails(w, KASMINA_STATUS_TYPE_MISMATCH, &w->x_tensor, &bad);
    }
    bad = w->x_tensor;
    bad.device_type = KASMINA_DEVICE_TYPE_CUDA;
    forward_fails(w, shape, &bad, &w->y_tensor);
    bad = w->x_tensor;
    bad.data = NULL;
    forward_fails(w, KASMINA_STATUS_INVALID_ARGUMENT, &bad, &w->y_tensor);
    bad = w->x_tensor;
    bad.shape = NULL;
    forward_fails(w, KASMINA_STATUS_INVALID_ARGUMENT, &bad, &w->y_tensor);
    bad = w->x_tensor;
    bad.struct_size = 8;
    forward_fails(w, KASMINA_STATUS_INVALID_ARGUMENT, &bad, &w->y_tensor);

    /* What is written may not overlap itself, and as many rows must be written as are read. */
    const int64_t repeated[] = {0, 1}, fewer[] = {ROWS - 1, HIDDEN}, none[] = {0, HIDDEN};
    bad = w->y_tensor;
    bad.strides = repeated;
    forward_fails(w, shape, &w->x_tensor, &bad);
    bad = w->x_tensor;
    bad.strides = repeated;
    forward_fails(w, KASMINA_STATUS_OK, &bad, &w->y_tensor);
    forward_fails(w, KASMINA_STATUS_OK, &bad, NULL);
    bad = w->y_tensor;
    bad.shape = fewer;
    forward_fails(w, shape, &w->x_tensor, &bad);

    /* No rows need no memory. */
    const kasmina_tensor empty = tensor(NULL, KASMINA_DATA_TYPE_F32, 2, none);
    forward_fails(w, KASMINA_STATUS_OK, &empty, &empty);
    forward_fails(w, KASMINA_STATUS_OK, &empty, NULL);
}

static void check_other_arguments(const world* w) {
    const kasmina_status invalid = KASMINA_STATUS_INVALID_ARGUMENT, shape = KASMINA_STATUS_SHAPE_MISMATCH;
    static double telemetry[SEEDS * 10];
    static float alpha[SEEDS + 1];
    const int64_t more[] = {SEEDS + 1}, alphas[] = {SEEDS}, columns[] = {SEEDS, 10}, swapped[] = {1, CAPACITY};
    const kasmina_tensor long_alpha = tensor(alpha, KASMINA_DATA_TYPE_F32, 1, more);
    const kasmina_tensor double_alpha = tensor(telemetry, KASMINA_DATA_TYPE_F64, 1, alphas);
    const kasmina_tensor good_telemetry = tensor(telemetry, KASMINA_DATA_TYPE_F64, 2, columns);
    kasmina_tensor sparse = w->bank_tensor;
    sparse.strides = swapped;
    const kasmina_tensor* no_banks[] = {NULL};
    const kasmina_tensor* sparse_banks[] = {&sparse};
    const kasmina_tensor* wrong_banks[] = {&w->x_tensor};

    kasmina_forward forward = good_forward(w);
    forward.alpha = &long_alpha;
    FAILS(shape, kasmina_layer_forward(w->layer, &forward, NULL, &error));
    forward.alpha = &double_alpha;
    FAILS(KASMINA_STATUS_TYPE_MISMATCH, kasmina_layer_forward(w->layer, &forward, NULL, &error));
    forward = good_forward(w);
    forward.telemetry = &w->x_tensor;
    FAILS(KASMINA_STATUS_TYPE_MISMATCH, kasmina_layer_forward(w->layer, &forward, NULL, &error));
    forward.telemetry = &good_telemetry;
    OK(kasmina_layer_forward(w->layer, &forward, NULL, &error));
    CHECK(telemetry[0] == ROWS * CHUNK);
    forward.flags = KASMINA_NO_TELEMETRY;
    FAILS(invalid, kasmina_layer_forward(w->layer, &forward, NULL, &error));
    forward.telemetry = NULL;
    OK(kasmina_layer_forward(w->layer, &forward, NULL, &error));
    forward.flags = 1u << 31;
    FAILS(KASMINA_STATUS_UNSUPPORTED, kasmina_layer_forward(w->layer, &forward, NULL, &error));
    forward = good_forward(w);
    forward.reserved = 1;
    CHECK(kasmina_layer_forward(w->layer, &forward, NULL, NULL) == KASMINA_STATUS_UNSUPPORTED);

    const struct {
        kasmina_status status;
        const kasmina_tensor* const* banks;
        size_t count;
    } banks[] = {{invalid, w->banks, 0}, {invalid, w->banks, 2},   {invalid, w->banks, SIZE_MAX}, {invalid, NULL, 1},
                 {invalid, no_banks, 1}, {shape, sparse_banks, 1}, {shape, wrong_banks, 1}};
    for (size_t i = 0; i < sizeof banks / sizeof *banks; ++i) {
        forward = good_forward(w);
        forward.banks = banks[i].banks;
        forward.bank_count = banks[i].count;
        FAILS(banks[i].status, kasmina_layer_forward(w->layer, &forward, NULL, &error));
        kasmina_backward backward = good_backward(w);
        backward.bank_gradients = banks[i].banks;
        backward.bank_gradient_count = banks[i].count;
        FAILS(banks[i].status, kasmina_layer_backward(w->layer, &backward, NULL, &error));
    }
    kasmina_backward backward = good_backward(w);
    backward.bank_gradients = NULL;
    backward.bank_gradient_count = 0;
    FAILS(invalid, kasmina_layer_backward(w->layer, &backward, NULL, &error));
    backward = good_backward(w);
    backward.output_gradient = NULL;
    FAILS(invalid, kasmina_layer_backward(w->layer, &backward, NULL, &error));
    backward = good_backward(w);
    backward.alpha_gradient = &long_alpha;
    FAILS(shape, kasmina_layer_backward(w->layer, &backward, NULL, &error));

    kasmina_train train = {.struct_size = sizeof train, .x = &w->x_tensor, .flags = KASMINA_NO_TELEMETRY};
    FAILS(KASMINA_STATUS_UNSUPPORTED, kasmina_layer_train(w->layer, &train, NULL, &error));
    train.flags = 0;
    train.target = &w->bank_tensor;
    FAILS(shape, kasmina_layer_train(w->layer, &train, NULL, &error));

    kasmina_adamw adamw = good_adamw(w);
    adamw.blueprint = 1;
    FAILS(invalid, kasmina_layer_adamw(w->layer, &adamw, NULL, &error));
    adamw = good_adamw(w);
    adamw.gradient = NULL;
    FAILS(invalid, kasmina_layer_adamw(w->layer, &adamw, NULL, &error));
    adamw.gradient = &w->x_tensor;
    FAILS(shape, kasmina_layer_adamw(w->layer, &adamw, NULL, &error));
}

/* ---- threads ---- */

typedef struct {
    kasmina_layer layer;
    atomic_int calls;
} shared;

/* Uses the layer in every way until it is gone. */
static void* use_until_destroyed(void* argument) {
    shared* s = argument;
    world w;
    make_world(&w);
    const kasmina_layer own = w.layer;
    w.layer = s->layer;
    static const char* const uses[] = {
        "kasmina_layer_forward",      "kasmina_layer_state",     "kasmina_layer_train",    "kasmina_layer_report",
        "kasmina_layer_export_array", "kasmina_layer_end_epoch", "kasmina_layer_to_bytes", "kasmina_layer_get_info"};
    kasmina_status status = KASMINA_STATUS_OK;
    for (size_t turn = 0; status == KASMINA_STATUS_OK; ++turn) {
        for (const call* call = CALLS; call < CALLS + CALL_COUNT; ++call) {
            if (strcmp(call->name, uses[turn % (sizeof uses / sizeof *uses)]) == 0) {
                status = call->make(&w, NULL);
            }
        }
        atomic_fetch_add(&s->calls, 1);
    }
    CHECK(status == KASMINA_STATUS_INVALID_HANDLE);
    w.layer = own;
    end_world(&w);
    return NULL;
}

static void check_destroy_under_use(void) {
    for (int round = 0; round < 5; ++round) {
        world w;
        make_world(&w);
        shared s = {.layer = w.layer};
        pthread_t threads[8];
        for (int i = 0; i < 8; ++i) {
            CHECK(pthread_create(&threads[i], NULL, use_until_destroyed, &s) == 0);
        }
        const struct timespec pause = {.tv_nsec = 1000 * 1000};
        while (atomic_load(&s.calls) < 100) {
            nanosleep(&pause, NULL);
        }
        end_world(&w);
        for (int i = 0; i < 8; ++i) {
            CHECK(pthread_join(threads[i], NULL) == 0);
        }
    }
}

/* ---- the end ---- */

static void check_shutdown(world* w) {
    OK(kasmina_shutdown(&error));
    for (const call* call = CALLS; call < CALLS + CALL_COUNT; ++call) {
        const int is_end = call->poisons == NOTHING && call->takes != NOTHING;
        const int is_allowed = is_end || call->make == call_shutdown;
        expect_call(call, w, is_allowed ? KASMINA_STATUS_OK : KASMINA_STATUS_INVALID_HANDLE);
    }
    CHECK(kasmina_abi_version() == KASMINA_ABI_VERSION && strcmp(kasmina_version(), KASMINA_VERSION) == 0);
    CHECK(kasmina_get_api(KASMINA_ABI_VERSION) != NULL);
}

int main(void) {
    world w;
    make_world(&w);
    for (const call* call = CALLS; call < CALLS + CALL_COUNT; ++call) {
        const int ends = call->poisons == NOTHING && call->takes != NOTHING;
        if (!ends && call->make != call_shutdown && call->make != call_layer_backward) {
            expect_call(call, &w, call->make == call_layer_roll_back ? KASMINA_STATUS_TRANSITION_REFUSED : 0);
        }
    }
    end_world(&w);
    remove(CHECKPOINT);
    OK(kasmina_set_log(NULL, NULL, 0, &error));

    make_world(&w);
    expect_call(find_call("kasmina_layer_backward"), &w, KASMINA_STATUS_OK);
    check_bad_handles(&w);
    check_null_pointers(&w);
    check_struct_sizes(&w);
    check_forged_numbers(&w);
    check_documents();
    check_tensors(&w);
    check_other_arguments(&w);
    check_destroy_under_use();
    check_shutdown(&w);
    return 0;
}
