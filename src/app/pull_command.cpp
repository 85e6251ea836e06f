#include <sys/ioctl.h>
#include <unistd.h>

#include <csignal>
#include <memory>
#include <optional>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "app/cli.h"
#include "app/commands.h"
#include "app/environment.h"
#include "app/pull_display.h"
#include "fetch/client.h"
#include "fetch/downloader.h"
#include "fetch/sources/pull.h"
#include "models/report.h"
#include "net/loop.h"

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

// The network's part of one `hearth pull`.
class Puller {
public:
    Puller(PullFlags const& flags, fetch::Reference reference, std::string folder)
        : flags_(flags),
          reference_(std::move(reference)),
          folder_(std::move(folder)),
          display_(::isatty(STDERR_FILENO) != 0 ? Screen::terminal : Screen::lines, terminal_columns()) {}

    Result<fetch::Pulled> run() {
        HEARTH_TRY(auto const options, client_options());
        HEARTH_TRY(client_, fetch::Client::create(loop_, options));
        fetch::DownloadOptions download;
        download.connections = flags_.connections;
        downloader_ = std::make_unique<fetch::Downloader>(loop_, *client_, download);
        loop_.on_signals({SIGINT, SIGTERM}, [this](int) { interrupt(); });
        loop_.spawn(pull());
        loop_.run();
        if (!result_) return Error(Code::cancelled, "stopped before anything was fetched");
        return std::move(*result_);
    }

private:
    Result<fetch::ClientOptions> client_options() {
        auto const network = network_environment();
        fetch::ClientOptions options;
        options.user_agent = "hearth/" HEARTH_VERSION;
        options.ca_file = network.ca_file;
        if (flags_.insecure) options.plain_http = fetch::PlainHttp::anywhere;
        if (!flags_.limit_rate.empty()) {
            HEARTH_TRY(options.bytes_per_second, parse_size(flags_.limit_rate, "--limit-rate"));
        }
        if (!network.proxy.empty()) {
            HEARTH_TRY(options.proxy, fetch::parse_url(network.proxy));
            if (options.proxy->tls)
                return Error(Code::invalid_argument,
                             "the proxy must be an http:// address, got '" + network.proxy + "'");
        }
        return options;
    }

    // A second Ctrl-C does not wait for the last bytes to be synced.
    void interrupt() {
        if (interrupted_ || !planned_) loop_.stop();
        interrupted_ = true;
        downloader_->cancel_all();
    }

    net::Task<Result<fetch::Plan>> plan() {
        auto const network = network_environment();
        if (auto const* hub = std::get_if<fetch::HubReference>(&reference_)) {
            fetch::HubOptions options;
            if (!network.hub_endpoint.empty()) options.endpoint = network.hub_endpoint;
            options.token = network.hub_token;
            co_return co_await fetch::plan_hub(*client_, *hub, options);
        }
        if (auto const* registry = std::get_if<fetch::RegistryReference>(&reference_)) {
            auto const plain = flags_.insecure ? fetch::PlainHttp::anywhere : fetch::PlainHttp::this_machine;
            co_return co_await fetch::plan_registry(*client_, *registry, plain);
        }
        co_return fetch::plan_url(std::get<fetch::UrlReference>(reference_));
    }

    net::Task<void> pull() {
        auto planned = co_await plan();
        if (planned && !flags_.source.empty()) {
            auto const renamed = fetch::rename(*planned, flags_.name);
            if (!renamed) planned = renamed.error();
        }
        if (planned) {
            planned_ = true;
            std::vector<std::string> names;
            for (auto const& file : planned->files) names.push_back(file.name);
            display_.begin(names);
            auto const listener = [this](std::size_t file, fetch::FileProgress const& progress) {
                show(display_.update(file, progress, clock_.now()));
            };
            result_ = co_await fetch::pull(loop_, *downloader_, std::move(*planned), folder_, listener);
            show(display_.finish(clock_.now()));
        } else {
            result_ = planned.error();
        }
        loop_.stop();
    }

    static void show(std::string const& text) {
        if (!text.empty()) fmt::print(stderr, "{}", text);
    }

    PullFlags const& flags_;
    fetch::Reference const reference_;
    std::string const folder_;
    net::Loop loop_;
    SteadyClock clock_;
    PullDisplay display_;
    std::unique_ptr<fetch::Client> client_;
    std::unique_ptr<fetch::Downloader> downloader_;
    std::optional<Result<fetch::Pulled>> result_;
    bool planned_ = false, interrupted_ = false;
};

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
    auto const* const local = std::get_if<fetch::LocalReference>(&*reference);
    auto const pulled = local != nullptr ? fetch::import_local(*local, flags.source.empty() ? "" : flags.name, folder)
                                         : Puller(flags, *reference, folder).run();
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
