#include "app/making.h"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <csignal>
#include <cstdio>
#include <filesystem>
#include <initializer_list>
#include <optional>
#include <system_error>
#include <utility>

#include <fmt/format.h>

#include "app/environment.h"
#include "app/memory_watch.h"
#include "catalog/locate.h"
#include "formats/cache.h"
#include "formats/source.h"
#include "llama/compute_threads.h"
#include "llama/libllama_backend.h"
#include "models/gguf.h"

namespace hearth::app {
namespace {

constexpr std::array kStopping{SIGINT, SIGTERM, SIGHUP};

std::sig_atomic_t volatile g_stopped = 0;
std::array<struct ::sigaction, kStopping.size()> g_before{};

void stop(int /*signal*/) { g_stopped = 1; }

// Quantised already: `auto` leaves it alone.
Result<bool> has_plain_weights(std::string const& source) {
    if (formats::is_folder(source)) return true;
    HEARTH_TRY(auto const files, models::read_gguf_model(source));
    auto const type = files.front().number("general.file_type");
    constexpr std::array<std::uint64_t, 3> kPlain{0, 1, 32};  // F32, F16, BF16
    return type && std::ranges::find(kPlain, *type) != kPlain.end();
}

struct NamedSource {
    std::string id;
    std::string path;
};

// Of `FOLDER`, `FILE`, `NAME`, or one of them behind "ID=".
Result<NamedSource> find_source(std::string const& argument, std::vector<std::string> const& folders) {
    NamedSource source;
    source.path = argument;
    if (auto const equals = argument.find('='); equals != std::string::npos && ::access(argument.c_str(), F_OK) != 0) {
        source.id = argument.substr(0, equals);
        source.path = argument.substr(equals + 1);
    }
    if (formats::is_model_folder(source.path)) {
        if (source.id.empty()) {
            std::error_code failed;
            source.id = std::filesystem::canonical(source.path, failed).filename().string();
        }
        return source;
    }
    HEARTH_TRY(auto located, catalog::locate(source.path, folders));
    source.path = std::move(located.path);
    if (source.id.empty()) source.id = std::move(located.id);
    return source;
}

// The file that `source` becomes by --quantize, from the cache or made now; nothing where it stays
// as it is. A folder becomes one in any case.
Result<std::optional<formats::QuantCache::Entry>> provide(std::string const& source, EngineFlags const& engine,
                                                          std::uint64_t budget, formats::Watch const& watch) {
    std::optional<formats::QuantCache::Entry> entry;
    HEARTH_TRY(bool const plain, has_plain_weights(source));
    if (engine.quantize == "auto" && !plain) return entry;
    HEARTH_TRY(auto const form, form_for(engine.quantize.empty() ? "full" : engine.quantize, source, budget));
    if (form.as_source() && !formats::is_folder(source)) return entry;
    auto const folder = quant_cache_folder(engine.quant_cache_dir);
    if (folder.empty())
        return Error(Code::invalid_argument, "there is no folder for what is made of a model: use --quant-cache-dir",
                     "--quant-cache-dir");
    HEARTH_TRY(auto const bytes_max, parse_size(engine.quant_cache_size, "--quant-cache-size"));
    formats::QuantCache const cache({folder, bytes_max, llama::upstream_version()});
    HEARTH_TRY(entry, cache.provide(source, form, workshop(), watch));
    return entry;
}

// Clients are told; our folders are none of their business.
Error without_folders(Error error, std::initializer_list<std::string> folders) {
    for (auto const& folder : folders) {
        if (folder.empty()) continue;
        for (auto at = error.message.find(folder + "/"); at != std::string::npos; at = error.message.find(folder + "/"))
            error.message.erase(at, folder.size() + 1);
    }
    return error;
}

}  // namespace

formats::Workshop workshop() {
    return {.executable = executable_path(), .environment = worker_environment(), .threads = llama::usable_cores()};
}

Result<formats::Form> form_for(std::string const& text, std::string const& source, std::uint64_t budget) {
    if (text != "auto") return formats::parse_form(text);
    HEARTH_TRY(auto const parameters, formats::count_parameters(source));
    auto const free = free_for_models(read_memory_signs(read_small_file), budget);
    return formats::form_of(formats::choose_profile(parameters, free));
}

Result<ServableModel> make_servable(std::string const& argument, std::vector<std::string> const& folders,
                                    EngineFlags const& engine, std::uint64_t budget) {
    auto const as_it_is = ServableModel{.argument = argument};
    HEARTH_TRY(auto const source, find_source(argument, folders));
    if (engine.quantize.empty() && !formats::is_folder(source.path)) return as_it_is;
    MakingLine line;
    HEARTH_TRY(auto entry, provide(source.path, engine, budget,
                                   [&](formats::Progress const& progress) { return line.show(progress); }));
    if (!entry) return as_it_is;
    bool const folder = formats::is_folder(source.path);
    ServableModel out{.argument = source.id + "=" + (folder ? entry->path : source.path)};
    if (!folder) out.weights = entry->path;
    out.hold = std::move(entry->hold);
    out.made = std::move(entry->path);
    out.source = source.path;
    return out;
}

library::Reshape reshaper(EngineFlags const& engine, std::uint64_t budget, bool original_meanwhile) {
    library::Reshape reshape;
    bool const files = !engine.quantize.empty() && engine.quantize != "full";
    reshape.wanted = [files](std::string const& path) -> Result<bool> {
        if (formats::is_folder(path) || !files) return formats::is_folder(path);
        return has_plain_weights(path);
    };
    reshape.make = [engine, budget](std::string const& path, auto const& watch) -> Result<library::Reshaped> {
        auto entry = provide(path, engine, budget, [&](formats::Progress const& progress) {
            bool const quantizing = progress.stage == formats::Stage::quantizing;
            return watch({quantizing, progress.bytes_done, progress.bytes});
        });
        if (!entry)
            return without_folders(entry.error(), {quant_cache_folder(engine.quant_cache_dir),
                                                   std::filesystem::path(path).parent_path().string()});
        if (!*entry) return library::Reshaped{};
        return library::Reshaped{std::move((*entry)->path), std::move((*entry)->hold)};
    };
    reshape.original_meanwhile = original_meanwhile;
    return reshape;
}

Status make_model_file(library::MakeOrder const& order,
                       std::function<bool(library::MakeProgress const&)> const& watch) {
    formats::Form form;
    if (!order.form.empty()) {
        HEARTH_TRY(form, form_for(order.form, order.source));
    }
    HEARTH_TRY(auto const made,
               formats::make({.source = order.source, .base = order.base, .output = order.output, .form = form},
                             workshop(), [&](formats::Progress const& progress) {
                                 bool const quantizing = progress.stage == formats::Stage::quantizing;
                                 return watch({quantizing, progress.bytes_done, progress.bytes});
                             }));
    static_cast<void>(made);
    return ok();
}

unsigned usual_file_mode() {
    auto const mask = ::umask(0);
    ::umask(mask);
    return 0666U & ~static_cast<unsigned>(mask);
}

// Without SA_RESTART or anything else clever: whoever reads or waits meanwhile tries again.
MakingLine::MakingLine() : shown_(::isatty(STDERR_FILENO) != 0) {
    struct ::sigaction action{};
    action.sa_handler = stop;
    for (std::size_t i = 0; i < kStopping.size(); ++i) ::sigaction(kStopping[i], &action, &g_before[i]);
}

MakingLine::~MakingLine() {
    if (shown_) fmt::print(stderr, "\r\x1b[K");
    for (std::size_t i = 0; i < kStopping.size(); ++i) ::sigaction(kStopping[i], &g_before[i], nullptr);
}

bool MakingLine::show(formats::Progress const& progress) {
    auto const now = std::chrono::steady_clock::now();
    if (shown_ && now - last_ >= std::chrono::milliseconds(100) && progress.tensors > 0) {
        last_ = now;
        auto const percent = progress.bytes == 0 ? 100 : progress.bytes_done * 100 / progress.bytes;
        fmt::print(stderr, "\r{:3}%  {}: {} of {} tensors, {} of {} MiB \x1b[K", percent, to_string(progress.stage),
                   progress.tensors_done, progress.tensors, progress.bytes_done >> 20, progress.bytes >> 20);
        std::fflush(stderr);
    }
    return g_stopped == 0;
}

}  // namespace hearth::app
