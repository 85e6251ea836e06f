#include "api/native/jobs.h"

#include <string>
#include <utility>

#include "api/answer.h"
#include "api/library.h"

namespace hearth::api::native {
namespace {

Problem job_problem(Error const& error) {
    auto problem = library_problem(error);
    if (error.code == Code::not_found) problem.kind = Kind::job_not_found;
    return problem;
}

void write_time(JsonWriter& json, jobs::UnixMs time) {
    if (time == 0) json.null();
    else json.number(time);
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
    auto const library = need_library(services);
    Result<jobs::Job> job = library ? Error(Code::not_found, "") : library.error();
    if (library) job = co_await (*library)->act(id_of(exchange), what);
    co_await answer(services, exchange, std::move(job));
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
    if (auto const wish = library::from_payload(job.payload); wish && job.kind == library::kPullKind) {
        json.key("model").string(wish->model).key("source");
        if (wish->source.empty()) json.null();
        else json.string(wish->source);
    }
    json.key("state").string(to_string(job.state));
    json.key("progress").begin_object().key("completed").number(job.progress.done).key("total");
    if (job.progress.total == 0) json.null();
    else json.number(job.progress.total);
    json.key("text").string(job.progress.text).end_object();
    json.key("attempt").number(job.attempt).key("error");
    if (job.error.empty()) json.null();
    else json.string(job.error);
    json.key("created_ms").number(job.created).key("updated_ms").number(job.updated).key("finished_ms");
    write_time(json, job.finished);
    json.end_object();
}

net::Task<void> list_jobs(Services& services, http::Exchange& exchange) {
    auto const library = need_library(services);
    Result<std::vector<jobs::Job>> jobs =
        library ? std::vector<jobs::Job>{} : Result<std::vector<jobs::Job>>(library.error());
    jobs::Filter filter;
    filter.limit = jobs::kPageMax;
    if (library) jobs = co_await (*library)->jobs(std::move(filter));
    if (!jobs) {
        co_await send_problem(services, exchange, job_problem(jobs.error()));
        co_return;
    }
    http::Response response;
    JsonWriter json(response.body);
    json.begin_object().key("jobs").begin_array();
    for (auto const& job : *jobs) write_job(json, job);
    json.end_array().end_object();
    co_await exchange.send(std::move(response));
}

net::Task<void> show_job(Services& services, http::Exchange& exchange) {
    auto const library = need_library(services);
    Result<jobs::Job> job = library ? Error(Code::not_found, "") : library.error();
    if (library) job = co_await (*library)->job(id_of(exchange));
    co_await answer(services, exchange, std::move(job));
}

net::Task<void> stream_job(Services& services, http::Exchange& exchange) {
    auto const library = need_library(services);
    Result<std::shared_ptr<library::JobFeed>> feed = library ? Error(Code::not_found, "") : library.error();
    if (library) feed = co_await (*library)->watch(id_of(exchange));
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
