// What `hearth show` has a server do that keeps the catalog: read a model whole, and
// accept its chat template.
#include <string_view>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "app/library_commands.h"
#include "app/progress_line.h"

namespace hearth::app {
namespace {

using nlohmann::json;

// Throws what the JSON library throws for members of other types.
void show(ProgressLine& line, json const& job) {
    auto const progress = job.value("progress", json::object());
    bool const known = progress.contains("total") && progress["total"].is_number_unsigned();
    line.show(progress.value("text", ""), progress.value("completed", std::uint64_t{0}),
              known ? progress["total"].get<std::uint64_t>() : 0);
}

// Throws what the JSON library throws for an answer of another shape.
Status watch_verification(ServerClient const& server, std::string const& model) {
    HEARTH_TRY(auto const begun, server.ask("POST", fmt::format("/api/v1/models/{}/verify", encode_segment(model))));
    if (begun.status != 202) return error_of(begun);
    auto job = json::parse(begun.body);
    ProgressLine line;
    auto const events = fmt::format("/api/v1/jobs/{}/events", job.at("id").get<std::string>());
    auto const watched = server.stream(events, [&](std::string_view text) {
        if (!text.starts_with("data: ")) return true;
        job = json::parse(text.substr(6));
        show(line, job);
        return !is_over(job.value("state", ""));
    });
    line.end();
    if (!watched) return watched.error();
    if (watched->status != 200) return error_of(*watched);
    auto const state = job.value("state", "");
    if (state == "done") return ok();
    if (!is_over(state)) return Error(Code::io, "the server stopped; it reads the model when it runs again");
    bool const said = job.contains("error") && job["error"].is_string();
    return Error(Code::corrupt, said ? job["error"].get<std::string>() : fmt::format("reading it was {}", state));
}

}  // namespace

Status verify_by(ServerClient const& server, std::string const& model) {
    try {
        return watch_verification(server, model);
    } catch (json::exception const&) {
        return Error(Code::corrupt, fmt::format("the server at {} does not answer as Hearth does", server.url()));
    }
}

Status trust_by(ServerClient const& server, std::string const& model) {
    auto const body = json{{"model", model}}.dump(-1, ' ', false, json::error_handler_t::replace);
    HEARTH_TRY(auto const answer, server.ask("POST", "/api/v1/models/trust", body));
    return answer.status < 300 ? ok() : Status(error_of(answer));
}

}  // namespace hearth::app
