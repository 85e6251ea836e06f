// `hearth rm`, `cp` and `trust`: asked of the server that runs, or done here with a library
// of this process's own.
#include "app/library_commands.h"

#include <filesystem>
#include <functional>
#include <memory>
#include <utility>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "app/cli.h"
#include "app/environment.h"
#include "app/template_trust.h"
#include "formats/source.h"
#include "library/library.h"
#include "models/report.h"
#include "net/loop.h"
#include "serving/pool.h"
#include "telemetry/log.h"
#include "telemetry/metrics.h"

namespace hearth::app {
namespace {

using nlohmann::json;
using nlohmann::ordered_json;

std::string body_of(std::initializer_list<std::pair<char const*, std::string>> fields) {
    auto body = json::object();
    for (auto const& [name, value] : fields) body[name] = value;
    return body.dump(-1, ' ', false, json::error_handler_t::replace);
}

// --- by the server -----------------------------------------------------------

int ask_for(ServerClient const& server, std::string_view method, std::string const& path, std::string const& body) {
    auto const answer = server.ask(method, path, body);
    return answer ? report_answer(*answer) : report_client(answer.error());
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
    options.folders = own_models_folders(flags.models_dirs);
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
    auto const no_spec = [](library::SpecOrder const&) -> Result<serving::ModelSpec> {
        return Error(Code::unsupported, "no model is served by this process");
    };
    HEARTH_TRY(auto const library, library::Library::create(loop, *pool, *log, std::move(options), no_spec));
    Status result = Error(Code::internal, "nothing was done");
    loop.spawn(run_change(loop, *library, change, result));
    loop.run();
    return result;
}

int say_done(ChangeFlags const& flags, ordered_json const& said) {
    if (!flags.catalog.json) return kExitOk;
    return write_out(said.dump(2, ' ', false, json::error_handler_t::replace) + '\n');
}

int change(ChangeFlags const& flags, std::function<int(ServerClient const&)> const& by_server, Change const& here,
           ordered_json const& said) {
    auto const server = server_for(flags.host, is_local(flags.catalog));
    if (!server) return report_client(server.error());
    if (*server) {
        if (int const code = by_server(**server); code != kExitOk) return code;
    } else if (auto const changed = change_here(flags.catalog, here); !changed) {
        return report(changed.error());
    }
    return say_done(flags, said);
}

}  // namespace

bool is_local(CatalogFlags const& flags) { return !flags.models_dirs.empty() || !flags.data_dir.empty(); }

Error error_of(ServerAnswer const& answer) {
    auto const code = [&] {
        switch (answer.status) {
            case 400: return Code::invalid_argument;
            case 404: return Code::not_found;
            case 413: return Code::too_large;
            case 507: return Code::exhausted;
            // Not `unavailable`, whatever it is: that one's exit code says that nobody answers.
            default: return Code::io;
        }
    }();
    return {code, message_of(answer)};
}

bool is_over(std::string_view job_state) {
    return job_state == "done" || job_state == "failed" || job_state == "cancelled";
}

int report_answer(ServerAnswer const& answer) { return answer.status < 300 ? kExitOk : report(error_of(answer)); }

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

int remove_model(ChangeFlags const& flags) {
    return change(
        flags,
        [&](ServerClient const& server) {
            return ask_for(server, "DELETE", "/api/v1/models/" + encode_segment(flags.model), {});
        },
        [&](library::Library& library) { return library.remove(flags.model); },
        {{"model", flags.model}, {"removed", true}});
}

int copy_model(ChangeFlags const& flags) {
    return change(
        flags,
        [&](ServerClient const& server) {
            return ask_for(server, "POST", "/api/v1/models/copy",
                           body_of({{"source", flags.model}, {"destination", flags.destination}}));
        },
        [&](library::Library& library) { return library.copy(flags.model, flags.destination); },
        {{"model", flags.model}, {"copy", flags.destination}});
}

int trust_model(ChangeFlags const& flags) {
    ordered_json const said = {{"model", flags.model}, {"trusted", true}};
    // What `hearth run` was given by its path is remembered by that.
    std::error_code failed;
    if (std::filesystem::is_regular_file(flags.model, failed) || formats::is_model_folder(flags.model)) {
        auto const trusted =
            confirm_trust(models::model_id(flags.model), flags.model, data_folder(flags.catalog.data_dir));
        return trusted ? say_done(flags, said) : report(trusted.error());
    }
    return change(
        flags,
        [&](ServerClient const& server) {
            return ask_for(server, "POST", "/api/v1/models/trust", body_of({{"model", flags.model}}));
        },
        [&](library::Library& library) { return library.trust(flags.model); }, said);
}

}  // namespace hearth::app
