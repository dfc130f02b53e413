/* The header stands alone, may be included twice, and belongs to the library. */

#include <kasmina/kasmina.h>

#include <kasmina/kasmina.h>

#include "check.h"

int main(void) {
    char version[32];
    snprintf(version, sizeof version, "%d.%d.%d", KASMINA_VERSION_MAJOR, KASMINA_VERSION_MINOR, KASMINA_VERSION_PATCH);
    CHECK(strcmp(version, KASMINA_VERSION) == 0);
    CHECK(strcmp(version, kasmina_version()) == 0);
    CHECK(kasmina_abi_version() == KASMINA_ABI_VERSION);
    return 0;
}
