// Every blueprint of the library can be asked for by name, and starts as its table says.

#include <kasmina/kasmina.hpp>

#include <cstdio>
#include <string>
#include <vector>

int main() {
    for (const char* name :
         {"residual", "attention", "mlp", "conv", "bottleneck", "low_rank", "squeeze_excite", "normalized_mlp"}) {
        const auto blueprint = kasmina::Blueprint::from_library(name, 16);
        if (blueprint.chunk() != 16 || blueprint.to_json().find(name) == std::string::npos) {
            std::fprintf(stderr, "%s is something else\n", name);
            return 1;
        }
    }
    // A fresh convolution is the identity: its first tap is 1, and so is its scale.
    const auto fresh = kasmina::Blueprint::from_library("conv", 16).initial_values(7);
    return fresh == std::vector<double>{1, 0, 0, 1} ? 0 : 1;
}
