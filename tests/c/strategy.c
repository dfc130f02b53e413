/* A grafting strategy of the host's own: asked at the end of each epoch with no lock held, and its failures hold. */

#include "calls.h"

#include <time.h>

enum { SEED = 1 };

static const char* const SETTINGS =
    "{\"training\": {\"loss_threshold\": 1e9}, \"minimum_epochs\": {\"germinated\": 0, \"training\": 0}}";

typedef struct {
    kasmina_layer layer;
    int asked;
    int32_t status;
    double increment;
    kasmina_grafting seen;
} strategist;

/* Counts in its memory, and uses the library, which it could not while the call held the layer. */
static int32_t rise(const kasmina_grafting* seen, double* memory, double* increment, void* user_data) {
    strategist* self = user_data;
    CHECK(seen->struct_size >= sizeof self->seen && *increment == 0.0);
    self->seen = *seen;
    ++self->asked;
    OK(kasmina_layer_set_metric(self->layer, 0.5 * (double)self->asked, &error));
    kasmina_bytes* report;
    OK(kasmina_layer_report(self->layer, &report, &error));
    kasmina_bytes_destroy(report);
    FAILS(KASMINA_STATUS_UNSUPPORTED, kasmina_layer_end_epoch(self->layer, NULL, NULL, &error));
    *memory += 1.0;
    *increment = self->increment;
    return self->status;
}

static void command_seed(kasmina_layer layer, kasmina_action action) {
    kasmina_command command = good_command();
    command.seed = SEED;
    command.action = action;
    command.strategy = KASMINA_STRATEGY_USER;
    kasmina_status status = KASMINA_STATUS_TRANSITION_REFUSED;
    /* A kernel may have to be compiled first. */
    for (int tries = 0; tries < 1000 && status != KASMINA_STATUS_OK; ++tries) {
        const struct timespec pause = {.tv_nsec = 10 * 1000 * 1000};
        status = kasmina_layer_submit(layer, &command, 1, NULL);
        if (status != KASMINA_STATUS_OK) {
            nanosleep(&pause, NULL);
        }
    }
    CHECK(status == KASMINA_STATUS_OK);
}

/* Ends an epoch in which the seed trained, if it is in TRAINING. The summary goes to `summary`. */
static void end_epoch(world* w, char* summary, size_t room) {
    const kasmina_forward forward = good_forward(w);
    const kasmina_train train = {.struct_size = sizeof train, .x = &w->x_tensor};
    OK(kasmina_layer_forward(w->layer, &forward, NULL, &error));
    OK(kasmina_layer_train(w->layer, &train, NULL, &error));
    kasmina_bytes* bytes;
    OK(kasmina_layer_end_epoch(w->layer, NULL, &bytes, &error));
    CHECK(kasmina_bytes_length(bytes) < room);
    memcpy(summary, kasmina_bytes_data(bytes), kasmina_bytes_length(bytes) + 1);
    kasmina_bytes_destroy(bytes);
}

static double number(kasmina_layer layer, kasmina_layer_array which) {
    kasmina_memory memory;
    kasmina_tensor exported = {.struct_size = sizeof exported};
    OK(kasmina_layer_export_array(layer, which, &memory, &exported, &error));
    CHECK(exported.data_type == (which == KASMINA_LAYER_ARRAY_ALPHA ? KASMINA_DATA_TYPE_F32 : KASMINA_DATA_TYPE_F64));
    const double found = exported.data_type == KASMINA_DATA_TYPE_F32 ? (double)((const float*)exported.data)[SEED]
                                                                     : ((const double*)exported.data)[SEED];
    OK(kasmina_memory_release(memory, &error));
    return found;
}

static void check_alpha(kasmina_layer layer, double alpha, double memory) {
    CHECK(number(layer, KASMINA_LAYER_ARRAY_ALPHA) == alpha);
    CHECK(number(layer, KASMINA_LAYER_ARRAY_STRATEGY_MEMORY) == memory);
}

int main(void) {
    static char summary[1 << 16];
    world w;
    make_world(&w);
    OK(kasmina_layer_destroy(w.layer, &error));
    kasmina_layer_config config = good_config();
    config.settings = SETTINGS;
    uint32_t index;
    OK(kasmina_layer_create(&config, &w.layer, &error));
    OK(kasmina_layer_add_blueprint(w.layer, w.blueprint, CAPACITY, &index, &error));

    strategist self = {.layer = w.layer, .increment = 0.25};
    OK(kasmina_layer_set_strategy(w.layer, rise, &self, &error));
    OK(kasmina_layer_set_metric(w.layer, 0.125, &error));
    static const kasmina_action way[] = {KASMINA_ACTION_GERMINATE, KASMINA_ACTION_START_TRAINING};
    for (size_t i = 0; i < sizeof way / sizeof *way; ++i) {
        command_seed(w.layer, way[i]);
        end_epoch(&w, summary, sizeof summary);
    }
    /* Some steps of isolated training, by which the gate judges. */
    end_epoch(&w, summary, sizeof summary);
    command_seed(w.layer, KASMINA_ACTION_START_GRAFTING);
    end_epoch(&w, summary, sizeof summary);
    CHECK(self.asked == 0);
    check_alpha(w.layer, 0.0, 0.0);

    /* What it was told, and what it said. */
    OK(kasmina_layer_set_metric(w.layer, 0.375, &error));
    end_epoch(&w, summary, sizeof summary);
    double squares = 0;
    for (int row = 0; row < ROWS; ++row) {
        for (int i = 0; i < CHUNK; ++i) {
            const double x = (double)w.x[row * HIDDEN + SEED * CHUNK + i];
            squares += x * x;
        }
    }
    CHECK(self.asked == 1 && self.seen.seed == SEED && self.seen.epoch == 5 && self.seen.epochs_in_state == 1);
    CHECK(self.seen.alpha == 0.0f && self.seen.metric == 0.375 && self.seen.improvement == 0.25);
    CHECK(fabs(self.seen.root_mean_square - sqrt(squares / (ROWS * CHUNK))) < 1e-6 && self.seen.gradient_norm == 0.0);
    CHECK(strstr(summary, "\"held\":[]") != NULL);
    check_alpha(w.layer, 0.25, 1.0);

    /* The metric that the strategy itself gave counts for the epoch that was ending. */
    end_epoch(&w, summary, sizeof summary);
    CHECK(self.asked == 2 && self.seen.alpha == 0.25f && isnan(self.seen.metric) && isnan(self.seen.improvement));
    check_alpha(w.layer, 0.5, 2.0);

    /* Failures hold, and are told. */
    self.status = 7;
    end_epoch(&w, summary, sizeof summary);
    CHECK(strstr(summary, "the user's strategy failed: it returned 7") != NULL);
    check_alpha(w.layer, 0.5, 2.0);
    self.status = 0;
    self.increment = NAN;
    end_epoch(&w, summary, sizeof summary);
    CHECK(strstr(summary, "the user's strategy gave the increment NaN") != NULL);
    check_alpha(w.layer, 0.5, 2.0);
    OK(kasmina_layer_set_strategy(w.layer, NULL, NULL, &error));
    end_epoch(&w, summary, sizeof summary);
    CHECK(self.asked == 4 && strstr(summary, "none is set") != NULL);
    check_alpha(w.layer, 0.5, 2.0);

    /* And it goes on where it stopped; what is more than 1 is 1. */
    self.increment = 1e300;
    OK(kasmina_layer_set_strategy(w.layer, rise, &self, &error));
    end_epoch(&w, summary, sizeof summary);
    check_alpha(w.layer, 1.0, 3.0);
    end_epoch(&w, summary, sizeof summary);
    CHECK(self.asked == 5);
    end_world(&w);
    return 0;
}
