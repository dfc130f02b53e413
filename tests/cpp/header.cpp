// Both headers stand alone, may be included twice, and belong to the library.

#include <kasmina/kasmina.hpp>

#include <kasmina/kasmina.h>
#include <kasmina/kasmina.hpp>

#include <string>
#include <type_traits>

static_assert(std::is_nothrow_move_constructible_v<kasmina::Layer> && !std::is_copy_constructible_v<kasmina::Layer>);
static_assert(std::is_nothrow_move_assignable_v<kasmina::Blueprint> && !std::is_copy_assignable_v<kasmina::Blueprint>);

int main() {
    return std::string(kasmina_version()) == KASMINA_VERSION ? 0 : 1;
}
