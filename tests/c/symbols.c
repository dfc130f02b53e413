/* Every function that the header declares is in the library. */

#include <ctype.h>
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static char* read_file(const char* path) {
    FILE* file = fopen(path, "rb");
    char* text = calloc(1, 1 << 20);
    if (file == NULL || text == NULL || fread(text, 1, (1 << 20) - 1, file) == 0) {
        fprintf(stderr, "%s cannot be read\n", path);
        exit(1);
    }
    fclose(file);
    return text;
}

int main(void) {
    void* library = dlopen(KASMINA_LIBRARY, RTLD_NOW);
    if (library == NULL) {
        fprintf(stderr, "%s\n", dlerror());
        return 1;
    }
    int functions = 0, missing = 0;
    char* text = read_file(KASMINA_HEADER);
    /* A declaration begins at the start of a line: a type, a name, and an opening parenthesis. */
    for (char* line = strtok(text, "\n"); line != NULL; line = strtok(NULL, "\n")) {
        char* end = strchr(line, '(');
        if (!isalpha((unsigned char)line[0]) || strncmp(line, "typedef", 7) == 0 || end == NULL) {
            continue;
        }
        char* name = end;
        while (name > line && (isalnum((unsigned char)name[-1]) || name[-1] == '_')) {
            --name;
        }
        *end = 0;
        ++functions;
        if (dlsym(library, name) == NULL) {
            fprintf(stderr, "%s is declared, but not in the library\n", name);
            ++missing;
        }
    }
    printf("%d functions\n", functions);
    free(text);
    return missing == 0 && functions >= 40 ? 0 : 1;
}
