/* However a process ends, it ends: without a shutdown, with layers alive, while kernels are compiled and other threads
 * compute. The program runs itself once for each way to end, and again for another moment of it. */

#include "opened.h"

#include <pthread.h>
#include <sys/wait.h>
#include <unistd.h>

static const kasmina_api* api;
static kasmina_layer layer;
static void* library;

static void wait_for_a_moment(void) {
    const char* milliseconds = getenv("KASMINA_TEST_MOMENT");
    const struct timespec moment = {.tv_nsec = 1000 * 1000 * atol(milliseconds ? milliseconds : "0")};
    nanosleep(&moment, NULL);
}

/* Computes until the layer is gone. */
static void* compute(void* nothing) {
    (void)nothing;
    while (pass_on(api, layer) == KASMINA_STATUS_OK) {
    }
    return NULL;
}

static void* leave(void* nothing) {
    (void)nothing;
    wait_for_a_moment();
    exit(0);
}

static pthread_t start(void* (*work)(void*)) {
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, work, NULL) == 0);
    return thread;
}

/* Ends as its name says. All of them have kernels being compiled. */
static int end(const char* how) {
    if (strcmp(how, "return") == 0) {
        wait_for_a_moment();
        return 0;
    }
    if (strcmp(how, "return while a thread computes") == 0) {
        start(compute);
        wait_for_a_moment();
        return 0;
    }
    if (strcmp(how, "exit from a thread while others compute") == 0) {
        start(compute);
        start(leave);
        compute(NULL);
        return 1; /* It does not come here. */
    }
    if (strcmp(how, "leave without any ceremony") == 0) {
        start(compute);
        wait_for_a_moment();
        _exit(0);
    }
    if (strcmp(how, "close the library, and go on for a while") == 0) {
        CHECK(dlclose(library) == 0);
        wait_for_a_moment();
        CHECK(pass_on(api, layer) == KASMINA_STATUS_OK); /* It is linked so that it stays. */
        return 0;
    }
    if (strcmp(how, "shut down while a thread computes") == 0) {
        const pthread_t thread = start(compute);
        wait_for_a_moment();
        CHECK(api->shutdown(NULL) == KASMINA_STATUS_OK);
        CHECK(pthread_join(thread, NULL) == 0);
        CHECK(dlclose(library) == 0);
        return 0;
    }
    if (strcmp(how, "fork, and end both") == 0) {
        wait_for_a_moment();
        const pid_t child = fork();
        CHECK(child >= 0);
        train_first(api, layer); /* What the parent asked for is asked for again in the child. */
        if (child == 0) {
            exit(0);
        }
        int status = -1;
        CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0);
        return 0;
    }
    return 1;
}

static const char* const WAYS[] = {"return",
                                   "return while a thread computes",
                                   "exit from a thread while others compute",
                                   "leave without any ceremony",
                                   "close the library, and go on for a while",
                                   "shut down while a thread computes",
                                   "fork, and end both"};

/* Runs this program, which is to end in this way after so many milliseconds. */
static void run(const char* program, const char* how, int moment) {
    const pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        char place[64], text[16];
        snprintf(place, sizeof place, "/tmp/kasmina-ends-%d", (int)getpid());
        snprintf(text, sizeof text, "%d", moment);
        /* A cache of its own, so that there is something to compile; it is not kept. */
        CHECK(setenv("KASMINA_CACHE_DIR", moment % 2 ? place : "off", 1) == 0);
        CHECK(setenv("KASMINA_TEST_MOMENT", text, 1) == 0);
        execl(program, program, how, (char*)NULL);
        _exit(127);
    }
    int status = -1;
    CHECK(waitpid(child, &status, 0) == child);
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) {
        fprintf(stderr, "to %s after %d ms ended with status %#x\n", how, moment, (unsigned)status);
        exit(1);
    }
    char removal[96];
    snprintf(removal, sizeof removal, "rm -rf /tmp/kasmina-ends-%d", (int)child);
    CHECK(system(removal) == 0);
}

int main(int count, char** arguments) {
    if (count == 1) {
        static const int MOMENTS[] = {0, 1, 5, 20, 51};
        for (size_t way = 0; way < sizeof WAYS / sizeof *WAYS; ++way) {
            for (size_t moment = 0; moment < sizeof MOMENTS / sizeof *MOMENTS; ++moment) {
                run(arguments[0], WAYS[way], MOMENTS[moment]);
            }
            printf("to %s ends well\n", WAYS[way]);
        }
        return 0;
    }
    alarm(60); /* What never ends is killed. */
    api = open_library(KASMINA_LIBRARY, &library);
    layer = germinated_layer(api);
    return end(arguments[1]);
}
