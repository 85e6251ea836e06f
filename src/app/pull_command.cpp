#include <sys/ioctl.h>
#include <unistd.h>

#include <csignal>
#include <string>
#include <utility>
#include <vector>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "app/cli.h"
#include "app/commands.h"
#include "app/environment.h"
#include "app/pull_display.h"
#include "fetch/sources/pull.h"
#include "library/puller.h"
#include "models/report.h"

namespace hearth::app {
namespace {

constexpr std::size_t kColumnsDefault = 80;

std::size_t terminal_columns() {
    winsize size{};
    return ::ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : kColumnsDefault;
}

int report_pull(Error const& error) {
    int const code = report(error);
    bool const unreachable = error.code == Code::unavailable || error.code == Code::deadline_exceeded;
    return unreachable ? kExitUnreachable : code;
}

Result<library::Network> network_of(PullFlags const& flags) {
    HEARTH_TRY(auto network, network_settings());
    network.download.connections = flags.connections;
    if (flags.insecure) network.client.plain_http = fetch::PlainHttp::anywhere;
    if (!flags.limit_rate.empty()) {
        HEARTH_TRY(network.client.bytes_per_second, parse_size(flags.limit_rate, "--limit-rate"));
    }
    return network;
}

void show_now(std::string const& text) {
    if (!text.empty()) fmt::print(stderr, "{}", text);
}

Result<fetch::Pulled> pull_here(PullFlags const& flags, fetch::Reference reference, std::string folder) {
    HEARTH_TRY(auto network, network_of(flags));
    SteadyClock const clock;
    PullDisplay display(::isatty(STDERR_FILENO) != 0 ? Screen::terminal : Screen::lines, terminal_columns());
    library::Puller::Events events;
    events.planned = [&](fetch::Plan const& plan) {
        std::vector<std::string> names;
        for (auto const& file : plan.files) names.push_back(file.name);
        display.begin(std::move(names));
    };
    events.progress = [&](std::size_t file, fetch::FileProgress const& progress) {
        show_now(display.update(file, progress, clock.now()));
    };
    library::PullOrder order{std::move(reference), flags.source.empty() ? std::string() : flags.name,
                             std::move(folder)};
    library::Puller puller(std::move(network), std::move(order), std::move(events));
    puller.loop().on_signals({SIGINT, SIGTERM}, [&](int) { puller.stop(); });
    auto pulled = puller.run();
    show_now(display.finish(clock.now()));
    return pulled;
}

std::string to_json(fetch::Pulled const& pulled, std::string const& folder) {
    auto files = nlohmann::ordered_json::array();
    for (auto const& file : pulled.files) {
        nlohmann::ordered_json const entry = {
            {"path", file.path}, {"size", file.size}, {"sha256", file.sha256}, {"present", file.present}};
        files.push_back(entry);
    }
    nlohmann::ordered_json const root = {{"model", pulled.model},           {"source", pulled.source},
                                         {"revision", pulled.revision},     {"folder", folder},
                                         {"fetched_bytes", pulled.fetched}, {"files", files}};
    return root.dump(2, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + '\n';
}

// Whole is not yet good: what Hearth would refuse to load is said now.
int check_pulled(fetch::Pulled const& pulled) {
    auto const& first = pulled.files.front().path;
    if (!first.ends_with(".gguf")) {
        fmt::print(stderr, "hearth: {} holds no GGUF file; Hearth cannot serve it yet\n", pulled.model);
        return kExitOk;
    }
    auto const checked = models::check_model(first);
    for (auto const& problem : checked.problems) fmt::print(stderr, "hearth: {}: {}\n", first, problem);
    if (!checked.valid) fmt::print(stderr, "hearth: the file is as its source has it, but it cannot be served\n");
    return checked.valid ? kExitOk : kExitError;
}

}  // namespace

int pull(PullFlags const& flags) {
    std::signal(SIGPIPE, SIG_IGN);  // a reader that leaves shows as a failed write
    std::signal(SIGXFSZ, SIG_IGN);  // and so does a limit on file sizes
    auto const reference = fetch::parse_reference(flags.source.empty() ? flags.name : flags.source);
    if (!reference) return report(reference.error());
    auto folder = flags.models_dir;
    if (folder.empty()) {
        auto const folders = models_folders({});
        if (folders.empty())
            return report(Error(Code::invalid_argument, "there is no models folder: give --models-dir"));
        folder = folders.front();
    }
    auto const pulled = pull_here(flags, *reference, folder);
    if (!pulled) {
        int const code = report_pull(pulled.error());
        if (pulled.error().code == Code::cancelled)
            fmt::print(stderr, "hearth: what was fetched is kept; the same command goes on from there\n");
        return code;
    }
    int const verdict = check_pulled(*pulled);
    auto const text =
        flags.json ? to_json(*pulled, folder) : fmt::format("{} is in {}\n", pulled->model, pulled->files.front().path);
    if (int const written = write_out(text); written != kExitOk) return written;
    return verdict;
}

}  // namespace hearth::app
