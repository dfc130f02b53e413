/* Every blueprint of the library can be asked for by name, and is what it says it is. */

#include "check.h"

static const struct {
    const char* name;
    uint64_t parameters;
} library[] = {
    {"residual", 16 + 1},
    {"attention", 16},
    {"mlp", 16 + 1},
    {"conv", 3 + 1},
    {"bottleneck", 2 * 4 * 16 + 4 + 16},
    {"low_rank", 2 * 2 * 16},
    {"squeeze_excite", 2 * 4 * 16 + 4 + 16},
    {"normalized_mlp", 2 * 16 + 2 * 32 * 16 + 32 + 16},
};

int main(void) {
    for (size_t i = 0; i < sizeof library / sizeof *library; ++i) {
        kasmina_blueprint blueprint;
        OK(kasmina_blueprint_from_library(library[i].name, 16, NULL, &blueprint, &error));
        uint64_t count = 0;
        OK(kasmina_blueprint_parameter_count(blueprint, &count, &error));
        CHECK(count == library[i].parameters);
        OK(kasmina_blueprint_destroy(blueprint, &error));
    }
    return 0;
}
