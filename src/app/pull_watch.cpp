// `hearth pull` by a server: its job is begun, watched and shown as a pull of this process.
#include <algorithm>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "app/cli.h"
#include "app/environment.h"
#include "app/library_commands.h"
#include "app/pull_display.h"
#include "base/clock.h"
#include "library/pull_job.h"

namespace hearth::app {
namespace {

using nlohmann::json;

std::string dumped(json const& value) { return value.dump(-1, ' ', false, json::error_handler_t::replace); }

std::string text_of(json const& object, char const* key) {
    auto const at = object.find(key);
    return at != object.end() && at->is_string() ? at->get<std::string>() : std::string();
}

std::uint64_t number_of(json const& object, char const* key) {
    auto const at = object.find(key);
    return at != object.end() && at->is_number_unsigned() ? at->get<std::uint64_t>() : 0;
}

struct Row {
    std::string file;
    std::optional<fetch::Stage> stage;  // none: not begun
    fetch::FileProgress progress;
    bool operator==(Row const& other) const {
        return stage == other.stage && progress.done == other.progress.done && progress.total == other.progress.total &&
               progress.note == other.progress.note;
    }
};

// The parts of a job that are files.
std::vector<Row> rows_of(json const& job) {
    std::vector<Row> rows;
    auto const progress = job.value("progress", json::object());
    for (auto const& part : progress.value("parts", json::array())) {
        Row row;
        row.file = text_of(part, "file");
        if (row.file.empty()) continue;
        row.stage = library::stage_of(text_of(part, "state"));
        row.progress.stage = row.stage.value_or(fetch::Stage::connecting);
        row.progress.done = number_of(part, "completed");
        row.progress.total = number_of(part, "total");
        row.progress.note = text_of(part, "note");
        rows.push_back(std::move(row));
    }
    return rows;
}

// A job's events as rows of a display.
class Shown {
public:
    void show(json const& job) {
        auto rows = rows_of(job);
        if (rows_.empty() && !rows.empty()) {
            std::vector<std::string> names;
            names.reserve(rows.size());
            for (auto const& row : rows) names.push_back(row.file);
            display_.begin(std::move(names));
            rows_.resize(rows.size());
        }
        for (std::size_t i = 0; i < std::min(rows.size(), rows_.size()); ++i) {
            if (!rows[i].stage || rows[i] == rows_[i]) continue;
            rows_[i] = std::move(rows[i]);
            show_on_stderr(display_.update(i, rows_[i].progress, clock_.now()));
        }
        tell_wait(job);
    }
    void end() { show_on_stderr(display_.finish(clock_.now())); }

private:
    // Why nothing happens, once.
    void tell_wait(json const& job) {
        auto const state = text_of(job, "state"), error = text_of(job, "error");
        std::string why;
        if (state == "queued" && error.empty()) why = "other downloads of the server go first";
        else if (state == "queued") why = fmt::format("{}; it is tried again", error);
        else if (state == "paused") why = "the download is paused";
        if (!why.empty() && why != told_) show_on_stderr(fmt::format("hearth: {}\n", why));
        told_ = why;
    }

    SteadyClock const clock_;
    PullDisplay display_ = display_on_stderr();
    std::vector<Row> rows_;
    std::string told_;
};

Code code_of(std::string_view text) {
    for (std::uint8_t i = 0; i < kCodeCount; ++i)
        if (to_string(static_cast<Code>(i)) == text) return static_cast<Code>(i);
    return Code::io;
}

int report_job(json const& job, PullFlags const& flags) {
    auto const state = text_of(job, "state");
    if (flags.json) {
        if (int const written = write_out(job.dump(2, ' ', false, json::error_handler_t::replace) + '\n');
            written != kExitOk)
            return written;
    }
    if (state == "done") return flags.json ? kExitOk : write_out(fmt::format("{} is there\n", flags.name));
    if (state != "failed") return report(Error(Code::io, fmt::format("the pull is {}", state)));
    auto error = text_of(job, "error");
    if (error.empty()) error = "the pull failed";
    return report_client(Error(code_of(text_of(job, "error_code")), std::move(error)));
}

Result<std::string> wish_of(PullFlags const& flags) {
    json wish{{"model", flags.name}, {"insecure", flags.insecure}};
    if (!flags.source.empty()) wish["source"] = flags.source;
    if (!flags.limit_rate.empty()) {
        HEARTH_TRY(auto const limit, parse_size(flags.limit_rate, "--limit-rate"));
        if (limit > 0) wish["limit_rate"] = limit;
    }
    return dumped(wish);
}

// Throws what the JSON library throws for an answer of another shape.
int watch_pull(ServerClient const& server, PullFlags const& flags) {
    auto const wish = wish_of(flags);
    if (!wish) return report(wish.error());
    auto const begun = server.ask("POST", "/api/v1/models/pull", *wish);
    if (!begun) return report_client(begun.error());
    if (begun->status != 202) return report_answer(*begun);
    auto job = json::parse(begun->body);
    auto const path = "/api/v1/jobs/" + job.at("id").get<std::string>() + "/events";
    Shown shown;
    auto const watched = server.stream(path, [&](std::string_view line) {
        if (!line.starts_with("data: ")) return true;
        job = json::parse(line.substr(6));
        shown.show(job);
        return !is_over(text_of(job, "state"));
    });
    shown.end();
    if (!watched) return report_client(watched.error());
    if (watched->status != 200) return report_answer(*watched);
    if (!is_over(text_of(job, "state")))
        return report(Error(Code::io, "the server stopped; the pull goes on when it runs again"));
    return report_job(job, flags);
}

}  // namespace

int pull_by(ServerClient const& server, PullFlags const& flags) {
    try {
        return watch_pull(server, flags);
    } catch (json::exception const&) {
        return report(
            Error(Code::corrupt, fmt::format("the server at {} does not answer as Hearth does", server.url())));
    }
}

}  // namespace hearth::app
