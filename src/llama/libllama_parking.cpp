// What is left of a backend while nobody needs it: the model's description, its
// vocabulary and template, its compute threads, asleep. A context takes milliseconds
// to make, a vocabulary of 262,144 tokens hundreds of them.
#include <exception>

#include "llama/libllama_impl.h"
#include "llama/runtime.h"

namespace hearth::llama {

Status LibllamaBackend::park() {
    AbortsThrow const aborts_throw;
    try {
        HEARTH_CHECK(parts_.pages.check());
    } catch (std::exception const& e) {
        return Error(Code::unsupported, e.what());
    }
    embedder_.rest();
    parts_.context.reset();
    parts_.cache_positions = CachePositions();
    parts_.pages.give_back();
    adapters_ = nullptr;
    ledger_ = CellLedger(parts_.properties.sequences_max, parts_.properties.kv_cells);
    guarded_.assign(guarded_.size(), 0);
    stateless_.assign(stateless_.size(), false);
    wants_logits_.clear();
    participants_.clear();
    added_.assign(added_.size(), 0);
    return ok();
}

Status LibllamaBackend::wake() {
    AbortsThrow const aborts_throw;
    try {
        HEARTH_CHECK(parts_.pages.take_again(parts_.properties.info.threads));
        if (parts_.kind == MemoryKind::none) return ok();
        HEARTH_TRY(parts_.context, parts_.make_context());
        llama_attach_threadpool(parts_.context.get(), parts_.pool.get(), parts_.pool.get());
        // As when it was loaded: where the order is not told it is that of the cells.
        static_cast<void>(parts_.cache_positions.attach(*parts_.context));
        return ok();
    } catch (std::exception const& e) {
        return Error(Code::overloaded, e.what());
    }
}

}  // namespace hearth::llama
