#include <sys/stat.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <cstdio>
#include <string>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "app/cli.h"
#include "app/commands.h"
#include "app/environment.h"
#include "convert/convert.h"

namespace hearth::app {
namespace {

std::sig_atomic_t volatile g_stopped = 0;

void stop(int /*signal*/) { g_stopped = 1; }

// Without SA_RESTART or anything else clever: whoever reads or writes meanwhile tries again.
void stop_on_signals() {
    struct ::sigaction action{};
    action.sa_handler = stop;
    for (int const signal : {SIGINT, SIGTERM, SIGHUP}) ::sigaction(signal, &action, nullptr);
}

// The line that a terminal shows while the weights pass.
class ProgressLine {
public:
    explicit ProgressLine(bool shown) : shown_(shown) {}

    void show(convert::Progress const& progress) {
        auto const now = std::chrono::steady_clock::now();
        if (!shown_ || now - last_ < std::chrono::milliseconds(100)) return;
        last_ = now;
        auto const percent = progress.bytes == 0 ? 100 : progress.bytes_done * 100 / progress.bytes;
        fmt::print(stderr, "\r{:3}%  {} of {} tensors, {} of {} MiB ", percent, progress.tensors_done, progress.tensors,
                   progress.bytes_done >> 20, progress.bytes >> 20);
        std::fflush(stderr);
    }
    void clear() const {
        if (shown_) fmt::print(stderr, "\r\x1b[K");
    }

private:
    bool const shown_;
    std::chrono::steady_clock::time_point last_;
};

// What a file made in the usual way would have. Only the main thread runs yet.
unsigned file_mode() {
    auto const mask = ::umask(0);
    ::umask(mask);
    return 0666U & ~static_cast<unsigned>(mask);
}

std::string render(convert::Report const& report, bool json) {
    if (!json) return report.output + "\n";
    nlohmann::ordered_json const object{{"output", report.output},         {"architecture", report.architecture},
                                        {"type", to_string(report.type)},  {"tensors", report.tensors},
                                        {"parameters", report.parameters}, {"file_bytes", report.file_bytes}};
    return object.dump(2, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + "\n";
}

}  // namespace

int convert(ConvertFlags const& flags) {
    stop_on_signals();
    ProgressLine line(::isatty(STDERR_FILENO) != 0);
    auto const report =
        convert::convert({.folder = flags.folder,
                          .output = flags.output,
                          .type = convert::element_type_named(flags.type),
                          .existing = flags.force ? convert::Existing::replace : convert::Existing::refuse,
                          .mode = file_mode()},
                         [&](convert::Progress const& progress) {
                             line.show(progress);
                             return g_stopped == 0;
                         });
    line.clear();
    if (!report && report.error().code == Code::cancelled) {
        fmt::print(stderr, "hearth: stopped; nothing was written\n");
        return kExitInterrupted;
    }
    if (!report) return app::report(report.error());
    return write_out(render(*report, flags.json));
}

}  // namespace hearth::app
