#include "app/environment.h"

#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <climits>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>
#include <string_view>

#include <fmt/format.h>

#include "app/cli.h"
#include "models/report.h"

namespace hearth::app {
namespace {

std::string variable(char const* name) {
    char const* const value = std::getenv(name);
    return value == nullptr ? std::string{} : std::string(value);
}

}  // namespace

std::vector<std::string> models_folders(std::vector<std::string> const& given) {
    auto folders = given;
    if (auto const extra = variable("HEARTH_MODELS_DIR"); !extra.empty()) folders.push_back(extra);
    auto cache = variable("XDG_CACHE_HOME");
    if (cache.empty() && !variable("HOME").empty()) cache = variable("HOME") + "/.cache";
    if (!cache.empty()) folders.push_back(cache + "/hearth/models");
    return folders;
}

std::string executable_path() {
    char path[PATH_MAX];
    auto const length = ::readlink("/proc/self/exe", path, sizeof path);
    return length > 0 ? std::string(path, static_cast<std::size_t>(length)) : std::string("hearth");
}

std::vector<std::string> worker_environment() {
    std::vector<std::string> kept;
    for (char** entry = environ; *entry != nullptr; ++entry) {
        std::string_view const text(*entry);
        for (std::string_view prefix : {"ASAN_", "UBSAN_", "TSAN_", "LSAN_", "LLVM_PROFILE_FILE="}) {
            if (text.starts_with(prefix)) kept.emplace_back(text);
        }
    }
    return kept;
}

std::int64_t unix_seconds() {
    auto const now = std::chrono::system_clock::now().time_since_epoch();
    return std::chrono::duration_cast<std::chrono::seconds>(now).count();
}

std::string random_suffix() {
    constexpr std::string_view kAlphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
    // The device is the kernel's generator; one read seeds many draws cheaply.
    static thread_local std::mt19937_64 generator{[] {
        std::random_device device;
        std::seed_seq seed{device(), device(), device(), device(), device(), device(), device(), device()};
        return std::mt19937_64(seed);
    }()};
    std::uniform_int_distribution<std::size_t> pick(0, kAlphabet.size() - 1);
    std::string out(24, ' ');
    for (auto& c : out) c = kAlphabet[pick(generator)];
    return out;
}

Result<serving::ModelSpec> model_spec(std::string const& argument, std::vector<std::string> const& folders,
                                      EngineFlags const& engine) {
    serving::ModelSpec spec;
    auto file = argument;
    // "ID=FILE" names the model; a path that really contains '=' wins.
    if (auto const equals = argument.find('='); equals != std::string::npos && ::access(argument.c_str(), F_OK) != 0) {
        spec.id = argument.substr(0, equals);
        file = argument.substr(equals + 1);
        if (spec.id.empty())
            return Error(Code::invalid_argument, fmt::format("'{}' names no model before '='", argument), "--model");
    }
    HEARTH_TRY(spec.path, models::resolve_model(file, folders));
    if (spec.id.empty()) spec.id = models::model_id(spec.path);

    auto const checked = models::check_model(spec.path);
    if (!checked.valid) {
        auto const why = checked.problems.empty() ? std::string("unknown problem") : checked.problems.front();
        return Error(Code::corrupt, fmt::format("{} is not a usable model file: {} (`hearth check {}` tells more)",
                                                spec.path, why, spec.path));
    }
    spec.context_request = engine.context;
    spec.kv_cells = engine.kv_cells;
    spec.sequences_max = engine.max_seqs;
    spec.threads = engine.threads;
    spec.prefix_cache = engine.no_prefix_cache ? 0 : 1;
    spec.speculation = engine.no_speculation ? 0 : 1;
    spec.step_ms_target = engine.step_target_ms;
    spec.deterministic = engine.deterministic ? 1 : 0;
    spec.cpu_variant = engine.cpu_variant;
    return spec;
}

telemetry::LogOptions log_options(LogFlags const& flags) {
    telemetry::LogOptions options;
    options.level = flags.debug ? telemetry::Level::debug : telemetry::Level::info;
    options.format = flags.format == "json" ? telemetry::Format::json : telemetry::Format::human;
    options.file = flags.file;
    options.color = flags.file.empty() && ::isatty(STDERR_FILENO) != 0;
    return options;
}

int write_out(std::string_view text) {
    errno = 0;
    if (std::fwrite(text.data(), 1, text.size(), stdout) == text.size() && std::fflush(stdout) == 0) return kExitOk;
    return report(Error(Code::io, fmt::format("cannot write to standard output: {}", std::strerror(errno))));
}

int report(Error const& error) {
    fmt::print(stderr, "hearth: {}\n", error.message);
    switch (error.code) {
        case Code::not_found: return kExitModelMissing;
        case Code::invalid_argument: return kExitUsage;
        case Code::cancelled: return kExitInterrupted;
        default: return kExitError;
    }
}

}  // namespace hearth::app
