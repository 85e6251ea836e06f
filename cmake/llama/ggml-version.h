// Stands in for the header that upstream's CMake generates. It lies here, not
// in the build folder, so that the compiler cache is shared between builds.
#define GGML_VERSION HEARTH_UPSTREAM_VERSION
#define GGML_COMMIT "pinned"
