// How many prompt tokens others would compute for the same requests: a cache
// without bounds, and llama-server. Pure arithmetic over the stream of prompts,
// each answered before the next arrives.
//
// Between requests all of llama-server's slots are idle then, which gives it more
// to choose from than it has under load, and it knows no tenants: these figures
// flatter it. What it does was read in
// the source that third_party.lock pins: tools/server/server-context.cpp
// (get_available_slot, try_clear_idle_slots) and server-task.cpp (server_prompt_cache).
#pragma once

#include <cstdint>
#include <vector>

#include "sim/workload.h"

namespace hearth::sim {

struct PromptTokens {
    std::uint64_t total = 0;     // of all prompts
    std::uint64_t computed = 0;  // not reused
};

// What nobody can do without: each prefix once per tenant, and each prompt's last token.
[[nodiscard]] PromptTokens unbounded_cache(Workload const& workload);

struct LlamaServer {
    std::uint32_t slots = 4;
    std::uint64_t kv_cells = 32768;  // shared by the slots (--kv-unified, the default)
    std::uint64_t ram_cells = 0;     // tokens its prompt cache in RAM holds; 0: there is none (--cache-ram 0)
};

[[nodiscard]] PromptTokens llama_server(Workload const& workload, LlamaServer const& limits);

}  // namespace hearth::sim
