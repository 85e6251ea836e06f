// As ggml-version.h.
#define LLAMA_VERSION HEARTH_UPSTREAM_VERSION
#define LLAMA_COMMIT "pinned"
