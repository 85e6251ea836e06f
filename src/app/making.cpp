#include "app/making.h"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <csignal>
#include <cstdio>
#include <filesystem>
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
    auto const as_it_is = ServableModel{argument, nullptr};
    auto const equals = argument.find('=');
    bool const folder = formats::is_model_folder(argument) ||
                        (equals != std::string::npos && formats::is_model_folder(argument.substr(equals + 1)));
    if (engine.quantize.empty() && !folder) return as_it_is;
    HEARTH_TRY(auto const source, find_source(argument, folders));
    HEARTH_TRY(bool const plain, has_plain_weights(source.path));
    if (engine.quantize == "auto" && !plain) return as_it_is;
    HEARTH_TRY(auto const form, form_for(engine.quantize.empty() ? "full" : engine.quantize, source.path, budget));
    if (form.as_source() && !formats::is_folder(source.path)) return as_it_is;
    auto const cache_folder = quant_cache_folder(engine.quant_cache_dir);
    if (cache_folder.empty()) {
        return Error(Code::invalid_argument, "there is no folder for what is made of a model: use --quant-cache-dir",
                     "--quant-cache-dir");
    }
    HEARTH_TRY(auto const bytes_max, parse_size(engine.quant_cache_size, "--quant-cache-size"));
    formats::QuantCache const cache({cache_folder, bytes_max, llama::upstream_version()});
    MakingLine line;
    HEARTH_TRY(auto entry, cache.provide(source.path, form, workshop(),
                                         [&](formats::Progress const& progress) { return line.show(progress); }));
    return ServableModel{source.id + "=" + entry.path, std::move(entry.hold)};
}

Status make_model_file(library::MakeOrder const& order,
                       std::function<bool(library::MakeProgress const&)> const& watch) {
    formats::Form form;
    if (!order.form.empty()) {
        HEARTH_TRY(form, form_for(order.form, order.source));
    }
    HEARTH_TRY(auto const made, formats::make({.source = order.source, .output = order.output, .form = form},
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
