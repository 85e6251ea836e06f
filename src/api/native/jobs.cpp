#include "api/native/jobs.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>

#include <fmt/format.h>

#include "api/answer.h"
#include "api/library.h"
#include "api/query.h"
#include "api/values.h"

namespace hearth::api::native {
namespace {

constexpr std::size_t kShown = 64;  // of a wrong value

Problem job_problem(Error const& error) {
    auto problem = library_problem(error);
    if (error.code == Code::not_found) problem.kind = Kind::job_not_found;
    return problem;
}

void write_time(JsonWriter& json, jobs::UnixMs time) {
    if (time == 0) json.null();
    else json.number(time);
}

void write_source(JsonWriter& json, jobs::Job const& job) {
    auto const wish = library::from_payload(job.payload);
    json.key("source");
    if (!wish || wish->source.empty()) json.null();
    else json.string(wish->source);
}

// state, kind, limit and before, each checked.
Verdict read_filter(std::string_view query, jobs::Filter& filter) {
    constexpr std::array kStates{jobs::State::queued, jobs::State::running, jobs::State::paused,
                                 jobs::State::done,   jobs::State::failed,  jobs::State::cancelled};
    if (auto const state = query_value(query, "state")) {
        auto const known = std::ranges::find(kStates, std::string_view(*state), jobs::to_string);
        if (known == kStates.end())
            return invalid_value("state", fmt::format("'state' must be queued, running, paused, done, failed or "
                                                      "cancelled, got '{}'.",
                                                      state->substr(0, kShown)));
        filter.state = *known;
    }
    filter.kind = query_value(query, "kind").value_or("");
    if (!filter.kind.empty() && !library::is_job_kind(filter.kind))
        return invalid_value("kind",
                             fmt::format("'kind' must be pull, push, verify, read, restore or quantize, got '{}'.",
                                         filter.kind.substr(0, kShown)));
    std::uint64_t limit = filter.limit, before = INT64_MAX;
    if (auto problem = read_query_number(query, "limit", 1, jobs::kPageMax, limit)) return problem;
    if (auto problem = read_query_number(query, "before", 1, INT64_MAX, before)) return problem;
    filter.limit = static_cast<std::size_t>(limit);
    filter.before = static_cast<std::int64_t>(before);
    return std::nullopt;
}

std::string id_of(http::Exchange const& exchange) { return std::string(exchange.request().parameter("id")); }

net::Task<void> answer(Services& services, http::Exchange& exchange, Result<jobs::Job> job) {
    if (!job) {
        co_await send_problem(services, exchange, job_problem(job.error()));
        co_return;
    }
    http::Response response;
    JsonWriter json(response.body);
    write_job(json, *job);
    co_await exchange.send(std::move(response));
}

net::Task<void> act(Services& services, http::Exchange& exchange, library::JobAct what) {
    auto const call = [&](library::Library& library) { return library.act(id_of(exchange), what); };
    auto job = co_await ask_library(services, call);
    co_await answer(services, exchange, std::move(job));
}

// Those it has; of a job that counts but one thing they are left out.
void write_parts(JsonWriter& json, std::vector<jobs::Part> const& parts) {
    if (parts.empty()) return;
    json.key("parts").begin_array();
    for (auto const& part : parts) {
        json.begin_object().key("name").string(part.name).key("completed").number(part.done);
        json.key("total").number(part.total);
        if (!part.file.empty()) json.key("file").string(part.file);
        if (!part.file.empty()) json.key("state").string(part.state.empty() ? "queued" : part.state);
        if (!part.note.empty()) json.key("note").string(part.note);
        json.end_object();
    }
    json.end_array();
}

std::string event_of(jobs::Job const& job) {
    std::string event = "data: ";
    JsonWriter json(event);
    write_job(json, job);
    return event + "\n\n";
}

}  // namespace

void write_job(JsonWriter& json, jobs::Job const& job) {
    json.begin_object().key("id").string(job.id).key("kind").string(job.kind);
    json.key("model").string(library::model_of(job));
    if (job.kind == library::kPullKind) write_source(json, job);
    json.key("state").string(to_string(job.state));
    json.key("progress").begin_object().key("completed").number(job.progress.done).key("total");
    if (job.progress.total == 0) json.null();
    else json.number(job.progress.total);
    json.key("text").string(job.progress.text);
    write_parts(json, job.progress.parts);
    json.end_object();
    json.key("attempt").number(job.attempt).key("error");
    if (job.error.empty()) json.null();
    else json.string(job.error);
    json.key("error_code");
    if (job.code) json.string(to_string(*job.code));
    else json.null();
    json.key("created_ms").number(job.created).key("updated_ms").number(job.updated).key("finished_ms");
    write_time(json, job.finished);
    json.key("sequence").number(job.sequence).end_object();
}

net::Task<void> list_jobs(Services& services, http::Exchange& exchange) {
    jobs::Filter filter;
    auto problem = read_filter(exchange.request().query, filter);
    if (problem) {
        co_await send_problem(services, exchange, *std::move(problem));
        co_return;
    }
    auto const call = [&](library::Library& library) { return library.jobs(filter); };
    auto const jobs = co_await ask_library(services, call);
    if (!jobs) {
        co_await send_problem(services, exchange, job_problem(jobs.error()));
        co_return;
    }
    http::Response response;
    JsonWriter json(response.body);
    json.begin_object().key("jobs").begin_array();
    for (auto const& job : *jobs) write_job(json, job);
    json.end_array().key("next");
    // There may be none behind a full page: the next one is empty then.
    if (jobs->size() < filter.limit) json.null();
    else json.number(jobs->back().sequence);
    json.end_object();
    co_await exchange.send(std::move(response));
}

net::Task<void> show_job(Services& services, http::Exchange& exchange) {
    auto const call = [&](library::Library& library) { return library.job(id_of(exchange)); };
    auto job = co_await ask_library(services, call);
    co_await answer(services, exchange, std::move(job));
}

net::Task<void> stream_job(Services& services, http::Exchange& exchange) {
    auto const call = [&](library::Library& library) { return library.watch(id_of(exchange)); };
    auto const feed = co_await ask_library(services, call);
    if (!feed) {
        co_await send_problem(services, exchange, job_problem(feed.error()));
        co_return;
    }
    http::StreamHead head;
    auto const opened = co_await exchange.start_stream(std::move(head));
    bool told = false;
    for (bool alive = opened.has_value(); alive;) {
        // A copy: the next change may come while this one is written.
        auto const job = (*feed)->job();
        auto const written = co_await exchange.write(told ? std::string(": waiting\n\n") : event_of(job));
        if (!written || services.draining()) co_return;
        if (!told && is_final(job.state)) break;
        if ((*feed)->job().revision != job.revision) {
            told = false;
            continue;
        }
        bool const changed = co_await (*feed)->changed_within(services.options.ping_interval);
        told = !changed;
        alive = !exchange.disconnected();
    }
    co_await exchange.end_stream();
}

net::Task<void> pause_job(Services& services, http::Exchange& exchange) {
    return act(services, exchange, library::JobAct::pause);
}
net::Task<void> resume_job(Services& services, http::Exchange& exchange) {
    return act(services, exchange, library::JobAct::resume);
}
net::Task<void> cancel_job(Services& services, http::Exchange& exchange) {
    return act(services, exchange, library::JobAct::cancel);
}
net::Task<void> retry_job(Services& services, http::Exchange& exchange) {
    return act(services, exchange, library::JobAct::retry);
}

}  // namespace hearth::api::native
