# Kasmina::kasmina: the shared library, built by cargo and put into KASMINA_LIBRARY_DIRECTORY under its versioned names; and
# the program `kasmina`, in KASMINA_PROGRAM_DIRECTORY.

find_program(KASMINA_CARGO cargo HINTS "$ENV{HOME}/.cargo/bin" REQUIRED)

if(CMAKE_BUILD_TYPE STREQUAL "Debug")
    set(cargo_arguments "")
    set(cargo_directory debug)
else()
    set(cargo_arguments --release)
    set(cargo_directory release)
endif()
if(DEFINED ENV{CARGO_TARGET_DIR})
    get_filename_component(cargo_target "$ENV{CARGO_TARGET_DIR}" ABSOLUTE)
else()
    set(cargo_target "${PROJECT_SOURCE_DIR}/target")
endif()

set(kasmina_soname "libkasmina.so.${PROJECT_VERSION_MAJOR}")
set(kasmina_file "libkasmina.so.${PROJECT_VERSION}")

# Runs each time, because only cargo knows whether there is something to do.
add_custom_target(
    kasmina_library ALL
    COMMAND "${KASMINA_CARGO}" build --lib --bin kasmina --locked ${cargo_arguments}
    COMMAND "${CMAKE_COMMAND}" -E make_directory "${KASMINA_LIBRARY_DIRECTORY}" "${KASMINA_PROGRAM_DIRECTORY}"
    COMMAND "${CMAKE_COMMAND}" -E copy_if_different "${cargo_target}/${cargo_directory}/libkasmina.so"
            "${KASMINA_LIBRARY_DIRECTORY}/${kasmina_file}"
    COMMAND "${CMAKE_COMMAND}" -E create_symlink "${kasmina_file}" "${KASMINA_LIBRARY_DIRECTORY}/${kasmina_soname}"
    COMMAND "${CMAKE_COMMAND}" -E create_symlink "${kasmina_soname}" "${KASMINA_LIBRARY_DIRECTORY}/libkasmina.so"
    COMMAND "${CMAKE_COMMAND}" -E copy_if_different "${cargo_target}/${cargo_directory}/kasmina"
            "${KASMINA_PROGRAM_DIRECTORY}/kasmina"
    BYPRODUCTS "${KASMINA_LIBRARY_DIRECTORY}/${kasmina_file}"
    WORKING_DIRECTORY "${PROJECT_SOURCE_DIR}"
    COMMENT "cargo build --lib --bin kasmina --locked ${cargo_arguments}"
    USES_TERMINAL VERBATIM)

# An imported target's include directory must be there when CMake configures; it is, in the source tree.
add_library(Kasmina::kasmina SHARED IMPORTED GLOBAL)
set_target_properties(
    Kasmina::kasmina
    PROPERTIES IMPORTED_LOCATION "${KASMINA_LIBRARY_DIRECTORY}/${kasmina_file}"
               IMPORTED_SONAME "${kasmina_soname}"
               INTERFACE_INCLUDE_DIRECTORIES "${PROJECT_SOURCE_DIR}/include")
add_dependencies(Kasmina::kasmina kasmina_library)
