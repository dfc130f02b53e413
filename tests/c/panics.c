/* A panic in any function becomes a status, the handle it happened in can only be destroyed, and the process lives on.
 */

#include "calls.h"

#include <sys/wait.h>
#include <unistd.h>

/* Functions that make_world calls itself; a panic would come too early there. */
static int makes_the_world(const call* call) {
    static const char* const makers[] = {"kasmina_layer_create", "kasmina_blueprint_from_library",
                                         "kasmina_layer_add_blueprint", "kasmina_layer_export_array",
                                         "kasmina_snapshot_create"};
    for (size_t i = 0; i < sizeof makers / sizeof *makers; ++i) {
        if (strcmp(makers[i], call->name) == 0) {
            return 1;
        }
    }
    return 0;
}

static void check_panic(const call* call, world* w) {
    kasmina_error* error = NULL;
    const kasmina_status status = call->make(w, &error);
    if (status != KASMINA_STATUS_PANIC || strstr(kasmina_error_message(error), call->name) == NULL) {
        fprintf(stderr, "%s: status %d, %s\n", call->name, (int)status, kasmina_error_message(error));
        exit(1);
    }
    kasmina_error_destroy(error);
}

/* What was poisoned refuses everything but its end; the process lives on. */
static void check_aftermath(const call* panicked, world* w) {
    for (const call* call = CALLS; call < CALLS + CALL_COUNT; ++call) {
        if ((call->takes & panicked->poisons) != 0 && call->poisons != NOTHING) {
            expect_call(call, w, KASMINA_STATUS_POISONED);
        }
    }
    if (panicked->poisons & LAYER) {
        expect_call(find_call("kasmina_layer_destroy"), w, KASMINA_STATUS_OK);
        expect_call(find_call("kasmina_layer_destroy"), w, KASMINA_STATUS_INVALID_HANDLE);
    }
    if (panicked->poisons & BLUEPRINT) {
        expect_call(find_call("kasmina_blueprint_destroy"), w, KASMINA_STATUS_OK);
    }
    if (panicked->poisons & MEMORY) {
        expect_call(find_call("kasmina_memory_release"), w, KASMINA_STATUS_OK);
    }
    if (panicked->poisons & SNAPSHOT) {
        expect_call(find_call("kasmina_snapshot_destroy"), w, KASMINA_STATUS_OK);
    }
    if (panicked->poisons == NOTHING && panicked->takes != NOTHING) {
        expect_call(panicked, w, KASMINA_STATUS_INVALID_HANDLE);
    }
}

/* Runs in a process of its own, because KASMINA_INJECT_PANIC is read once. */
static void panic_in(const call* call) {
    setenv("KASMINA_INJECT_PANIC", call->name, 1);
    world w;
    memset(&w, 0, sizeof w);
    if (!makes_the_world(call)) {
        make_world(&w);
    } else if (call->takes != NOTHING) {
        const kasmina_layer_config config = good_config();
        OK(kasmina_layer_create(&config, &w.layer, &error));
        OK(kasmina_blueprint_from_library("attention", CHUNK, NULL, &w.other_blueprint, &error));
    }
    check_panic(call, &w);
    check_aftermath(call, &w);
}

static void in_child(void (*body)(const call*), const call* call) {
    fflush(NULL);
    const pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        body(call);
        fflush(NULL);
        _exit(0);
    }
    int status = 0;
    CHECK(waitpid(child, &status, 0) == child);
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) {
        fprintf(stderr, "a panic in %s ended the process: wait status %d\n", call->name, status);
        exit(1);
    }
}

/* The checkpoint that kasmina_layer_load finds. */
static void save(const call* call) {
    (void)call;
    world w;
    make_world(&w);
    expect_call(find_call("kasmina_layer_save"), &w, KASMINA_STATUS_OK);
}

int main(void) {
    in_child(save, CALLS);
    for (const call* call = CALLS; call < CALLS + CALL_COUNT; ++call) {
        in_child(panic_in, call);
    }
    remove(CHECKPOINT);
    printf("%d functions\n", (int)CALL_COUNT);
    return 0;
}
