// `hearth push`: a model of this machine, to the registry its name says.
#include <unistd.h>

#include <csignal>
#include <stop_token>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "app/cli.h"
#include "app/commands.h"
#include "app/environment.h"
#include "app/library_commands.h"
#include "catalog/catalog.h"
#include "catalog/create.h"
#include "library/push_job.h"

namespace hearth::app {
namespace {

// One line of a terminal, or a line for every word.
class Shown {
public:
    void show(std::string const& text, std::uint64_t done, std::uint64_t total) {
        auto const percent = total == 0 ? std::string() : fmt::format(" {}%", done * 100 / total);
        auto const line = terminal_ ? text + percent : text;
        if (line == last_) return;
        last_ = line;
        fmt::print(stderr, "{}{}{}", terminal_ ? "\r\x1b[K" : "", line, terminal_ ? "" : "\n");
        std::fflush(stderr);
    }
    void end() const {
        if (terminal_ && !last_.empty()) fmt::print(stderr, "\n");
    }

private:
    bool const terminal_ = ::isatty(STDERR_FILENO) != 0;
    std::string last_;
};

// Throws what the JSON library throws for an answer of another shape.
Status watch_push(ServerClient const& server, PushFlags const& flags, Shown& shown) {
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
    return Error(answer.status == 404 ? Code::not_found : Code::io, message_of(answer));
}

Status push_by(ServerClient const& server, PushFlags const& flags, Shown& shown) {
    try {
        return watch_push(server, flags, shown);
    } catch (nlohmann::json::exception const&) {
        return Error(Code::corrupt, fmt::format("the server at {} does not answer as Hearth does", server.url()));
    }
}

Status push_here(PushFlags const& flags, Shown& shown) {
    HEARTH_TRY(auto const target, library::target_of({flags.model, flags.insecure}));
    HEARTH_TRY(auto const catalog, open_catalog(flags.catalog));
    HEARTH_TRY(auto const model, library::find_pushed(*catalog, {flags.model, flags.insecure}));
    HEARTH_TRY(auto const network, network_settings());
    library::PushSubject subject{model.files.front().path, {}};
    HEARTH_TRY(subject.definition,
               catalog::definition_of(model.name, subject.path, models_folders(flags.catalog.models_dirs)));
    return library::push_model(
        network, {}, subject, target,
        [&](std::string const& text, std::uint64_t done, std::uint64_t total) { shown.show(text, done, total); },
        std::stop_token());
}

}  // namespace

int push(PushFlags const& flags) {
    std::signal(SIGPIPE, SIG_IGN);  // a reader that leaves shows as a failed write
    auto const server = server_for(flags.host, is_local(flags.catalog));
    if (!server) return report_client(server.error());
    Shown shown;
    auto const pushed = *server ? push_by(**server, flags, shown) : push_here(flags, shown);
    shown.end();
    if (!pushed) return report_client(pushed.error());
    return write_out(fmt::format("pushed {}\n", flags.model));
}

}  // namespace hearth::app
