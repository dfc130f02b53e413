/* Log messages reach the host, with no lock held: the callback may use the library. */

#include "calls.h"

typedef struct {
    kasmina_layer layer;
    int messages;
    int calls_from_inside;
} listener;

static void listen(int32_t level, const char* message, void* user_data) {
    listener* heard = user_data;
    CHECK(level >= KASMINA_LOG_LEVEL_ERROR && level <= KASMINA_LOG_LEVEL_DEBUG && *message != 0);
    ++heard->messages;
    /* Would wait for ever if the call that logs still held the layer. */
    OK(kasmina_layer_end_epoch(heard->layer, NULL, NULL, &error));
    ++heard->calls_from_inside;
}

int main(void) {
    world w;
    make_world(&w);
    listener heard = {.layer = w.layer};
    OK(kasmina_set_log(listen, &heard, KASMINA_LOG_LEVEL_DEBUG, &error));
    const kasmina_command command = good_command();
    OK(kasmina_layer_submit(w.layer, &command, 1, &error));
    OK(kasmina_layer_end_epoch(w.layer, NULL, NULL, &error));
    OK(kasmina_layer_prepare(w.layer, KASMINA_DATA_TYPE_F32, 0, &error));
    OK(kasmina_layer_end_epoch(w.layer, NULL, NULL, &error));
    CHECK(heard.messages > 0 && heard.calls_from_inside == heard.messages);

    /* Nobody listens any more. */
    OK(kasmina_set_log(NULL, NULL, KASMINA_LOG_LEVEL_DEBUG, &error));
    const int before = heard.messages;
    OK(kasmina_layer_prepare(w.layer, KASMINA_DATA_TYPE_BF16, 0, &error));
    OK(kasmina_layer_end_epoch(w.layer, NULL, NULL, &error));
    CHECK(heard.messages == before);
    end_world(&w);
    return 0;
}
