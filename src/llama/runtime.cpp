#include "llama/runtime.h"

#include <fmt/format.h>
#include <ggml-backend.h>
#include <llama.h>

#include <cstdlib>
#include <exception>
#include <mutex>
#include <stdexcept>

#include "llama/cpu_registration.h"
#include "llama/cpu_variants.h"
#include "llama/lazy_memory.h"

namespace hearth::llama {

namespace {

constexpr std::size_t kCapturedBytesMax = 1024;
constexpr std::size_t kLogLineMax = 4096;  // upstream prints whole tokenizer tables on one line
constexpr int kLevelError = 3;

thread_local ErrorCapture* current_capture = nullptr;
thread_local bool aborts_throw = false;

struct State {
    std::mutex mutex;
    std::string variant;  // empty until started
    std::mutex log_mutex;
    LogSink log;  // set once, before upstream can log
};

// Never destroyed: upstream may log from a thread that outlives main().
State& state() {
    static auto* const instance = new State;
    return *instance;
}

int our_level(ggml_log_level level) {
    switch (level) {
        case GGML_LOG_LEVEL_ERROR: return kLevelError;
        case GGML_LOG_LEVEL_WARN: return 2;
        case GGML_LOG_LEVEL_INFO: return 1;
        default: return 0;
    }
}

void emit(int level, std::string_view line) {
    if (level == kLevelError) capture_error(line);
    State& s = state();
    if (!s.log) return;
    std::lock_guard const lock(s.log_mutex);
    s.log(level, line.substr(0, kLogLineMax));
}

// Upstream logs in pieces; a sink gets whole lines.
void on_upstream_log(ggml_log_level level, char const* text, void*) {
    thread_local std::string pending;
    thread_local int pending_level = 0;
    if (level != GGML_LOG_LEVEL_CONT) pending_level = our_level(level);
    pending += text;
    std::size_t begin = 0;
    for (std::size_t end = 0; (end = pending.find('\n', begin)) != std::string::npos; begin = end + 1)
        if (end > begin) emit(pending_level, std::string_view(pending).substr(begin, end - begin));
    pending.erase(0, begin);
    if (pending.size() > kLogLineMax) pending.clear();
}

// Upstream calls this and then abort(), unless it does not return.
void on_upstream_abort(char const* message) {
    if (aborts_throw) throw std::runtime_error(message);
    emit(kLevelError, message);
}

}  // namespace

ErrorCapture::ErrorCapture() : outer_(current_capture) { current_capture = this; }
ErrorCapture::~ErrorCapture() { current_capture = outer_; }

AbortsThrow::AbortsThrow() : outer_(aborts_throw) { aborts_throw = true; }
AbortsThrow::~AbortsThrow() { aborts_throw = outer_; }

void capture_error(std::string_view line) {
    if (current_capture == nullptr) return;
    std::string& text = current_capture->text_;
    if (text.size() >= kCapturedBytesMax) return;
    // "llama_model_load: error loading model: ..." -> "error loading model: ..."
    auto const colon = line.find(": ");
    if (colon != std::string_view::npos && line.substr(0, colon).find(' ') == std::string_view::npos)
        line.remove_prefix(colon + 2);
    if (!text.empty()) text += "; ";
    text += line.substr(0, kCapturedBytesMax - text.size());
}

Result<std::string> start_runtime(std::string_view variant, LogSink const& log) {
    State& s = state();
    std::lock_guard const lock(s.mutex);
    if (!s.variant.empty()) {
        if (!variant.empty() && variant != s.variant)
            return Error(Code::invalid_argument,
                         fmt::format("CPU variant '{}' was asked for, but this process already uses '{}'; one process "
                                     "can use only one",
                                     variant, s.variant),
                         "cpu_variant");
        return s.variant;
    }
    HEARTH_TRY(std::string name, choose_cpu_variant(variant));

    s.log = log;
    llama_log_set(on_upstream_log, nullptr);
    ggml_set_abort_callback(on_upstream_abort);
    // ggml installs a handler that forks a debugger. What is uncaught ends the
    // process here as everywhere; the supervisor and the core dump do the rest.
    std::set_terminate([] { std::abort(); });

    install_lazy_memory();
    ggml_backend_register(cpu_registration(name));
    llama_backend_init();
    s.variant = std::move(name);
    return s.variant;
}

}  // namespace hearth::llama
