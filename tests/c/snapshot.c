/* A layer is put back as it was, by hand and because the loss says so. */

#include "calls.h"

static int32_t lifecycle(kasmina_layer layer, int seed) {
    kasmina_bytes* bytes;
    int32_t state[SEEDS][4];
    OK(kasmina_layer_state(layer, &bytes, &error));
    memcpy(state, kasmina_bytes_data(bytes), sizeof state);
    kasmina_bytes_destroy(bytes);
    return state[seed][0];
}

static void germinate(kasmina_layer layer, uint32_t seed) {
    kasmina_command command = good_command();
    command.seed = seed;
    OK(kasmina_layer_submit(layer, &command, 1, &error));
}

static void check_restore(world* w) {
    germinate(w->layer, 0);
    OK(kasmina_layer_end_epoch(w->layer, NULL, NULL, &error));
    kasmina_snapshot snapshot;
    OK(kasmina_snapshot_create(w->layer, NULL, &snapshot, &error));
    kasmina_snapshot_info info = {.struct_size = sizeof info};
    OK(kasmina_snapshot_get_info(snapshot, &info, &error));
    CHECK(info.epoch == 1 && info.taken == 1 && info.bytes > 0);

    kasmina_memory memory;
    kasmina_tensor parameters = {.struct_size = sizeof parameters};
    OK(kasmina_layer_export_bank(w->layer, 0, KASMINA_BANK_ARRAY_PARAMETERS, &memory, &parameters, &error));
    float then[CAPACITY * PARAMETERS];
    memcpy(then, parameters.data, sizeof then);
    for (int i = 0; i < CAPACITY * PARAMETERS; ++i) {
        ((float*)parameters.data)[i] = NAN;
    }
    OK(kasmina_layer_end_epoch(w->layer, NULL, NULL, &error));
    germinate(w->layer, 1);

    kasmina_bytes* text;
    OK(kasmina_layer_restore(w->layer, snapshot, "the weights are gone", NULL, &text, &error));
    CHECK(strstr(kasmina_bytes_data(text), "\"from_epoch\":2,\"to_epoch\":1,\"reason\":\"the weights are gone\""));
    CHECK(strstr(kasmina_bytes_data(text), "\"dropped\":[[{\"seed\":1,\"action\":\"germinate\""));
    kasmina_bytes_destroy(text);
    CHECK(memcmp(then, parameters.data, sizeof then) == 0);
    OK(kasmina_layer_end_epoch(w->layer, NULL, &text, &error));
    CHECK(strstr(kasmina_bytes_data(text), "\"restored\":[{") != NULL);
    kasmina_bytes_destroy(text);
    CHECK(lifecycle(w->layer, 0) == KASMINA_LIFECYCLE_GERMINATED &&
          lifecycle(w->layer, 1) == KASMINA_LIFECYCLE_DORMANT);

    OK(kasmina_snapshot_take(snapshot, w->layer, NULL, &error));
    OK(kasmina_snapshot_get_info(snapshot, &info, &error));
    CHECK(info.epoch == 2);
    OK(kasmina_memory_release(memory, &error));
    OK(kasmina_snapshot_destroy(snapshot, &error));
}

/* The world's own snapshot does not fit everything. */
static void check_mismatch(world* w) {
    const kasmina_status mismatch = KASMINA_STATUS_SNAPSHOT_MISMATCH;
    kasmina_layer other;
    OK(kasmina_layer_copy(w->layer, KASMINA_DEVICE_TYPE_CPU, 0, KASMINA_DATA_TYPE_F32, NULL, &other, &error));
    FAILS(mismatch, kasmina_layer_restore(other, w->snapshot, NULL, NULL, NULL, &error));
    FAILS(mismatch, kasmina_snapshot_take(w->snapshot, other, NULL, &error));
    OK(kasmina_layer_destroy(other, &error));
    OK(kasmina_layer_restore(w->layer, w->snapshot, NULL, NULL, NULL, &error));
    uint32_t index;
    OK(kasmina_layer_add_blueprint(w->layer, w->other_blueprint, 1, &index, &error));
    FAILS(mismatch, kasmina_layer_restore(w->layer, w->snapshot, NULL, NULL, NULL, &error));
    FAILS(mismatch, kasmina_snapshot_take(w->snapshot, w->layer, NULL, &error));
}

/* What a trainer does with a loss. */
static void check_loss(world* w) {
    kasmina_snapshot snapshot;
    OK(kasmina_snapshot_create(w->layer, NULL, &snapshot, &error));
    kasmina_loss_guard guard = {.struct_size = sizeof guard, .warm_up = 5, .rise = 1.0};
    const double losses[] = {2.0, 1.9, 1.8, 1.7, 1.7, 1.6, 9.0, NAN, 1.6};
    for (size_t step = 0; step < sizeof losses / sizeof *losses; ++step) {
        kasmina_bytes* reason = NULL;
        OK(kasmina_loss_guard_judge(&guard, losses[step], &reason, &error));
        CHECK((reason != NULL) == (step == 6 || step == 7));
        if (reason != NULL) {
            CHECK(strstr(kasmina_bytes_data(reason), step == 6 ? "the loss 9 spikes" : "the loss is NaN") != NULL);
            OK(kasmina_layer_restore(w->layer, snapshot, kasmina_bytes_data(reason), NULL, NULL, &error));
        }
        kasmina_bytes_destroy(reason);
    }
    CHECK(guard.accepted == 7 && guard.mean > 1.6 && guard.mean < 2.0);
    OK(kasmina_snapshot_destroy(snapshot, &error));
}

int main(void) {
    world w;
    make_world(&w);
    check_restore(&w);
    check_mismatch(&w);
    check_loss(&w);
    end_world(&w);
    return 0;
}
