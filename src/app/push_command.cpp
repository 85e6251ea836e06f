// `hearth push`: a model of this machine, to the registry its name says.
#include <csignal>
#include <stop_token>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "app/cli.h"
#include "app/commands.h"
#include "app/environment.h"
#include "app/library_commands.h"
#include "app/progress_line.h"
#include "catalog/catalog.h"
#include "catalog/create.h"
#include "library/permits.h"
#include "library/push_job.h"

namespace hearth::app {
namespace {

// Throws what the JSON library throws for an answer of another shape.
Status watch_push(ServerClient const& server, PushFlags const& flags, ProgressLine& shown) {
    nlohmann::json const wish{{"model", flags.model}, {"insecure", flags.insecure}};
    auto const body = wish.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
    Status result = Error(Code::io, "the server stopped; the push goes on when it runs again");
    HEARTH_TRY(auto const answer, server.post_stream("/api/push", body, [&](std::string_view line) {
        auto const said = nlohmann::json::parse(line);
        if (said.contains("error")) result = Error(Code::io, said["error"].get<std::string>());
        auto const status = said.value("status", "");
        if (status == "success") result = ok();
        if (!status.empty())
            shown.show(status, said.value("completed", std::uint64_t{0}), said.value("total", std::uint64_t{0}));
        return true;
    }));
    if (answer.status == 200) return result;
    return error_of(answer);
}

Status push_by(ServerClient const& server, PushFlags const& flags, ProgressLine& shown) {
    try {
        return watch_push(server, flags, shown);
    } catch (nlohmann::json::exception const&) {
        return Error(Code::corrupt, fmt::format("the server at {} does not answer as Hearth does", server.url()));
    }
}

Status push_here(PushFlags const& flags, ProgressLine& shown) {
    HEARTH_TRY(auto const target, library::target_of({flags.model, flags.insecure}));
    HEARTH_TRY(auto const catalog, open_catalog(flags.catalog));
    HEARTH_TRY(auto const model, library::find_pushed(*catalog, {flags.model, flags.insecure}));
    HEARTH_TRY(auto const network, network_settings());
    library::PushSubject subject{model.name, catalog::served_from(model.files), {}};
    auto const folders = models_folders(flags.catalog.models_dirs, flags.catalog.data_dir);
    HEARTH_TRY(subject.definition, catalog::definition_of(model.name, subject.path, folders));
    return library::push_model(
        network, {}, subject, target,
        [&](fetch::PushStep const& step) { shown.show(step.text, step.done, step.total); }, std::stop_token());
}

}  // namespace

int push(PushFlags const& flags) {
    std::signal(SIGPIPE, SIG_IGN);  // a reader that leaves shows as a failed write
    auto const server = server_for(flags.host, is_local(flags.catalog));
    if (!server) return report_client(server.error());
    ProgressLine shown;
    auto const pushed = *server ? push_by(**server, flags, shown) : push_here(flags, shown);
    shown.end();
    // What is damaged is here: nobody is out of reach.
    if (!pushed && pushed.error().param == library::kDamaged) return report(pushed.error());
    if (!pushed) return report_client(pushed.error());
    if (flags.json) {
        nlohmann::ordered_json const said{{"model", flags.model}, {"pushed", true}};
        return write_out(said.dump(2, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + '\n');
    }
    return write_out(fmt::format("pushed {}\n", flags.model));
}

}  // namespace hearth::app
