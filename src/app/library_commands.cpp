// `hearth rm`, `cp` and `trust`, and `hearth pull` by a server: asked of the server that
// runs, or done here with a library of this process's own.
#include "app/library_commands.h"

#include <unistd.h>

#include <functional>
#include <memory>
#include <utility>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "app/cli.h"
#include "app/environment.h"
#include "app/pull_display.h"
#include "library/library.h"
#include "net/loop.h"
#include "serving/pool.h"
#include "telemetry/log.h"
#include "telemetry/metrics.h"

namespace hearth::app {
namespace {

using nlohmann::json;

std::string body_of(std::initializer_list<std::pair<char const*, std::string>> fields) {
    auto body = json::object();
    for (auto const& [name, value] : fields) body[name] = value;
    return body.dump(-1, ' ', false, json::error_handler_t::replace);
}

// --- by the server -----------------------------------------------------------

int report_answer(ServerAnswer const& answer) {
    if (answer.status < 300) return kExitOk;
    auto const code = answer.status == 404 ? Code::not_found : answer.status == 400 ? Code::invalid_argument : Code::io;
    return report(Error(code, message_of(answer)));
}

int ask_for(ServerClient const& server, std::string_view method, std::string const& path, std::string const& body) {
    auto const answer = server.ask(method, path, body);
    return answer ? report_answer(*answer) : report_client(answer.error());
}

// What a pull has come to, on one line of a terminal or a line for every tenth.
class Gauge {
public:
    void show(json const& job) {
        auto const progress = job.value("progress", json::object());
        auto const done = progress.value("completed", std::uint64_t{0});
        bool const known = progress.contains("total") && progress["total"].is_number_unsigned();
        auto const total = known ? progress["total"].get<std::uint64_t>() : 0;
        auto const text = progress.value("text", "");
        auto const tenths = total > 0 ? done * 10 / total : 0;
        bool const terminal = ::isatty(STDERR_FILENO) != 0;
        if (!terminal && text == text_ && tenths == tenths_) return;
        text_ = text;
        tenths_ = tenths;
        auto const amount = total > 0 ? fmt::format("{} of {}", human_bytes(done), human_bytes(total)) : std::string();
        fmt::print(stderr, "{}{}  {}{}", terminal ? "\r\x1b[K" : "", text, amount, terminal ? "" : "\n");
    }
    static void end() {
        if (::isatty(STDERR_FILENO) != 0) fmt::print(stderr, "\n");
    }

private:
    std::string text_;
    std::uint64_t tenths_ = 0;
};

bool is_over(json const& job) {
    auto const state = job.value("state", "");
    return state == "done" || state == "failed" || state == "cancelled";
}

int report_job(json const& job, PullFlags const& flags) {
    auto const state = job.value("state", "");
    if (flags.json) return write_out(job.dump(2, ' ', false, json::error_handler_t::replace) + '\n');
    if (state == "done") return write_out(fmt::format("{} is there\n", flags.name));
    bool const said = job.contains("error") && job["error"].is_string();
    return report(Error(Code::io, said ? job["error"].get<std::string>() : fmt::format("the pull is {}", state)));
}

// Throws what the JSON library throws for an answer of another shape.
int watch_pull(ServerClient const& server, PullFlags const& flags) {
    json wish{{"model", flags.name}, {"insecure", flags.insecure}};
    if (!flags.source.empty()) wish["source"] = flags.source;
    auto const begun =
        server.ask("POST", "/api/v1/models/pull", wish.dump(-1, ' ', false, json::error_handler_t::replace));
    if (!begun) return report_client(begun.error());
    if (begun->status != 202) return report_answer(*begun);
    auto job = json::parse(begun->body);
    auto const path = "/api/v1/jobs/" + job.at("id").get<std::string>() + "/events";
    Gauge gauge;
    auto const watched = server.stream(path, [&](std::string_view line) {
        if (!line.starts_with("data: ")) return true;
        job = json::parse(line.substr(6));
        gauge.show(job);
        return !is_over(job);
    });
    Gauge::end();
    if (!watched) return report_client(watched.error());
    if (watched->status != 200) return report_answer(*watched);
    if (!is_over(job)) return report(Error(Code::io, "the server stopped; the pull goes on when it runs again"));
    int const code = report_job(job, flags);
    return code == kExitOk && job.value("state", "") != "done" ? kExitError : code;
}

// --- in this process ---------------------------------------------------------

// Nothing is computed by commands about files.
class NoLauncher final : public serving::Launcher {
public:
    Result<std::unique_ptr<serving::WorkerHandle>> launch(serving::ModelSpec const&) override {
        return Error(Code::unsupported, "no model runs in this process");
    }
};

using Change = std::function<net::Task<Status>(library::Library&)>;

net::Task<void> run_change(net::Loop& loop, library::Library& library, Change const& change, Status& result) {
    result = co_await change(library);
    loop.stop();
}

Status change_here(CatalogFlags const& flags, Change const& change) {
    library::Options options;
    options.data_folder = data_folder(flags.data_dir);
    if (options.data_folder.empty())
        return Error(Code::invalid_argument, "no folder to remember models in: give --data-dir, or set HOME",
                     "--data-dir");
    options.folders = models_folders(flags.models_dirs, flags.data_dir);
    options.pulls_at_once = 0;
    options.new_id = random_suffix;
    LogFlags quiet;
    auto logging = log_options(quiet);
    logging.level = telemetry::Level::error;
    HEARTH_TRY(auto const log, telemetry::Log::create(logging));
    net::Loop loop;
    telemetry::Registry metrics;
    SteadyClock const clock;
    NoLauncher launcher;
    auto const pool = serving::Pool::create(loop, {}, launcher, clock, *log, metrics);
    auto const no_spec = [](std::string const&, std::string const&) -> Result<serving::ModelSpec> {
        return Error(Code::unsupported, "no model is served by this process");
    };
    HEARTH_TRY(auto const library, library::Library::create(loop, *pool, *log, std::move(options), no_spec));
    Status result = Error(Code::internal, "nothing was done");
    loop.spawn(run_change(loop, *library, change, result));
    loop.run();
    return result;
}

int change(ChangeFlags const& flags, std::function<int(ServerClient const&)> const& by_server, Change const& here) {
    auto const server = server_for(flags.host, is_local(flags.catalog));
    if (!server) return report_client(server.error());
    if (*server) return by_server(**server);
    auto const changed = change_here(flags.catalog, here);
    return changed ? kExitOk : report(changed.error());
}

}  // namespace

bool is_local(CatalogFlags const& flags) { return !flags.models_dirs.empty() || !flags.data_dir.empty(); }

int report_client(Error const& error) {
    int const code = report(error);
    bool const unreachable = error.code == Code::unavailable || error.code == Code::deadline_exceeded;
    return unreachable ? kExitUnreachable : code;
}

Result<std::optional<ServerClient>> server_for(std::string const& host, bool here) {
    if (host.empty() && here) return std::optional<ServerClient>();
    if (here)
        return Error(Code::invalid_argument,
                     "--host names a server that does it, and other options are about this process: its folders, its "
                     "files or its connections",
                     "--host");
    HEARTH_TRY(auto address, server_address(host));
    ServerClient client(std::move(address));
    if (client.answers()) return std::optional(std::move(client));
    if (host.empty()) return std::optional<ServerClient>();
    return Error(Code::unavailable, fmt::format("no Hearth server answers at {}", client.url()), "--host");
}

int pull_by(ServerClient const& server, PullFlags const& flags) {
    try {
        return watch_pull(server, flags);
    } catch (json::exception const&) {
        return report(
            Error(Code::corrupt, fmt::format("the server at {} does not answer as Hearth does", server.url())));
    }
}

int remove_model(ChangeFlags const& flags) {
    return change(
        flags,
        [&](ServerClient const& server) {
            return ask_for(server, "DELETE", "/api/v1/models/" + encode_segment(flags.model), {});
        },
        [&](library::Library& library) { return library.remove(flags.model); });
}

int copy_model(ChangeFlags const& flags) {
    return change(
        flags,
        [&](ServerClient const& server) {
            return ask_for(server, "POST", "/api/v1/models/copy",
                           body_of({{"source", flags.model}, {"destination", flags.destination}}));
        },
        [&](library::Library& library) { return library.copy(flags.model, flags.destination); });
}

int trust_model(ChangeFlags const& flags) {
    return change(
        flags,
        [&](ServerClient const& server) {
            return ask_for(server, "POST", "/api/v1/models/trust", body_of({{"model", flags.model}}));
        },
        [&](library::Library& library) { return library.trust(flags.model); });
}

}  // namespace hearth::app
