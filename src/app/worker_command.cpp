#include <unistd.h>

#include <cstdio>
#include <filesystem>
#include <memory>
#include <optional>

#include <fmt/format.h>

#include "app/cli.h"
#include "app/commands.h"
#include "app/environment.h"
#include "engine/draft_model.h"
#include "kvstore/folder.h"
#include "kvstore/folders.h"
#include "kvstore/options.h"
#include "llama/compute_threads.h"
#include "llama/libllama_backend.h"
#include "models/adapter.h"
#include "models/gguf.h"
#include "sandbox/sandbox.h"
#include "serving/launcher.h"
#include "worker/worker.h"

namespace hearth::app {
namespace {

// The prefix cache's folder and key: without them, or with a broken one, prefixes stay in memory.
struct ColdTier {
    std::shared_ptr<kvstore::SystemFolder> folder;
    std::optional<kvstore::SealKey> key;
};

// Folders of models that nobody uses any more; the own one is open already, so it stays.
void trim_others(serving::ModelSpec const& spec) {
    if (spec.cache_disk_total_bytes == 0) return;
    auto const all = std::filesystem::path(spec.cache_folder).parent_path().string();
    auto const trimmed = kvstore::trim_folders(all, spec.cache_disk_total_bytes);
    if (!trimmed) {
        fmt::print(stderr, "hearth worker: {}\n", trimmed.error().message);
    } else if (trimmed->folders > 0) {
        fmt::print(stderr, "hearth worker: prefix caches of {} models unused longest removed: {} MiB were {}\n",
                   trimmed->folders, trimmed->bytes_after >> 20, trimmed->bytes_before >> 20);
    }
}

ColdTier open_cold_tier(serving::ModelSpec const& spec) {
    ColdTier tier;
    if (spec.cache_folder.empty() || spec.cache_disk_bytes == 0 || spec.prefix_cache == 0) return tier;
    Status usable = ok();
    if (!spec.cache_key_file.empty()) {
        if (auto key = read_cache_key(spec.cache_key_file)) tier.key = *key;
        else usable = key.error();
    }
    if (usable) {
        if (auto folder = kvstore::SystemFolder::open(spec.cache_folder)) tier.folder = std::move(folder).value();
        else usable = folder.error();
    }
    if (tier.folder) trim_others(spec);
    if (!usable) fmt::print(stderr, "hearth worker: the prefix cache stays in memory: {}\n", usable.error().message);
    return tier;
}

// By their names alone: nothing of a file is read outside the sandbox.
void add_files(std::string const& path, std::vector<std::string>& files) {
    auto const split = models::parse_split_name(path);
    if (!split) {
        files.push_back(path);
        return;
    }
    for (std::uint32_t number = 1; number <= split->count; ++number) {
        auto const part = models::split_path(split->prefix, number, split->count);
        if (::access(part.c_str(), R_OK) == 0) files.push_back(part);
    }
}

// Everything the worker may read: the files of its models and nothing else.
sandbox::Policy policy(serving::ModelSpec const& spec, std::vector<int> keep) {
    sandbox::Policy result;
    result.keep_fds = std::move(keep);
    add_files(spec.path, result.readable);
    if (!spec.draft_path.empty()) add_files(spec.draft_path, result.readable);
    for (auto const& variant : spec.variants)
        for (auto const& adapter : variant.adapters) result.readable.push_back(adapter.file);
    return result;
}

llama::LoadOptions load_options(serving::ModelSpec const& spec) {
    llama::LoadOptions options;
    options.path = spec.path;
    options.context_request = spec.context_request;
    options.kv_cells = spec.kv_cells;
    options.sequences_max = spec.sequences_max;
    options.threads = spec.threads;
    options.cores = llama::usable_cores();
    options.cpu_variant = spec.cpu_variant;
    options.chat_template = spec.chat_template;
    options.deterministic = spec.deterministic != 0;
    options.names_states = spec.cache_disk_bytes != 0;
    for (auto const& variant : spec.variants) {
        auto& set = options.adapters.emplace_back();
        for (auto const& [file, scale] : variant.adapters) set.push_back({file, scale});
    }
    return options;
}

// Our own validator first, on the very file and inside the sandbox.
Result<std::unique_ptr<llama::Backend>> load_checked(llama::LoadOptions load, worker::Progress const& progress) {
    // What upstream says below an error is for developers: its warnings suppose one sequence per cache.
    load.log = [progress](int level, std::string_view text) { progress.log(level <= 2 ? 0 : level, text); };
    HEARTH_TRY(auto const model, models::read_gguf_model(load.path));
    for (auto const& set : load.adapters) {
        for (auto const& adapter : set) {
            HEARTH_TRY(auto const file, models::read_adapter(adapter.path));
            HEARTH_CHECK(models::check_adapter(file, model));
        }
    }
    return llama::load_libllama(load);
}

// Beside the model: as many sequences at once, a few kept, as long as its own training lets them be.
Result<std::unique_ptr<llama::Backend>> load_draft(serving::ModelSpec const& spec, llama::LoadOptions load,
                                                   llama::Backend const& model, worker::Progress const& progress) {
    constexpr std::uint32_t kKept = 16;
    load.path = spec.draft_path;
    load.context_request = 0;
    load.context_default = model.properties().info.context_request;
    load.sequences_kept = kKept;
    load.adapters.clear();  // they are the model's
    load.deterministic = false;  // what it says is only ever a guess
    load.names_states = false;
    auto draft = load_checked(std::move(load), progress);
    auto const usable = draft ? engine::DraftModel::check(model, **draft) : Status(draft.error());
    if (usable) return draft;
    return Error(usable.error().code,
                 fmt::format("{} cannot guess ahead for {}: {}", spec.draft_path, spec.path, usable.error().message),
                 "--draft");
}

}  // namespace

int worker(std::vector<std::string> const& arguments) {
    auto parsed = serving::parse_worker_arguments(arguments);
    if (!parsed) {
        fmt::print(stderr, "hearth worker: {} (this command is started by `hearth serve`)\n", parsed.error().message);
        return kExitUsage;
    }
    auto const& [spec, fd] = parsed.value();
    int const statm = worker::prepare_process();
    auto const load = load_options(spec);  // looks at the machine, so before the sandbox
    auto cold = open_cold_tier(spec);
    auto confined = policy(spec, {fd, statm});
    if (cold.folder) {
        confined.writable = spec.cache_folder;
        confined.keep_fds.push_back(cold.folder->fd());
    }
    auto const entered = sandbox::enter(confined);
    if (!entered) {
        fmt::print(stderr, "hearth worker: {}\n", entered.error().message);
        return kExitError;
    }
    SteadyClock const clock;
    worker::Options options;
    options.fd = fd;
    options.engine = worker::engine_options({}, spec);
    if (entered.value().writable) {
        options.engine.tiers.folder = std::move(cold.folder);
        options.engine.tiers.seal_key = cold.key;
    }
    options.statm_fd = statm;
    options.on_abandoned = [] { ::_exit(kExitOk); };
    // The front is gone or has let go: there is nobody to be tidy for, and a
    // running decode would hold up an orderly teardown.
    options.on_finished = [](Status const& outcome) {
        std::fflush(stderr);
        ::_exit(outcome ? kExitOk : kExitError);
    };
    options.isolation = entered.value().description;
    auto const factory = [&](worker::Progress const& progress) {
        auto with_progress = load;
        with_progress.progress = progress;
        return load_checked(std::move(with_progress), progress);
    };
    if (!spec.draft_path.empty()) {
        options.load_draft = [&](llama::Backend const& model, worker::Progress const& progress) {
            return load_draft(spec, load, model, progress);
        };
    }
    auto const status = worker::run(options, factory, clock);
    return status ? kExitOk : kExitError;
}

}  // namespace hearth::app
