#include "app/making.h"

#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <string_view>

#include <fmt/format.h>

#include "app/environment.h"
#include "formats/source.h"
#include "llama/compute_threads.h"

namespace hearth::app {
namespace {

constexpr std::array kStopping{SIGINT, SIGTERM, SIGHUP};

std::sig_atomic_t volatile g_stopped = 0;
std::array<struct ::sigaction, kStopping.size()> g_before{};

void stop(int /*signal*/) { g_stopped = 1; }

// What the system could give without swapping; 0 where it does not say.
std::uint64_t available_memory() {
    std::ifstream file("/proc/meminfo");
    for (std::string line; std::getline(file, line);) {
        constexpr std::string_view kKey = "MemAvailable:";
        if (line.starts_with(kKey)) return std::strtoull(line.c_str() + kKey.size(), nullptr, 10) << 10;
    }
    return 0;
}

}  // namespace

formats::Workshop workshop() {
    return {.executable = executable_path(), .environment = worker_environment(), .threads = llama::usable_cores()};
}

Result<formats::Form> form_for(std::string const& text, std::string const& source) {
    if (text != "auto") return formats::parse_form(text);
    HEARTH_TRY(auto const parameters, formats::count_parameters(source));
    return formats::form_of(formats::choose_profile(parameters, available_memory()));
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
