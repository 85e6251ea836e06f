#include "api/ollama/pull.h"

#include <algorithm>
#include <array>
#include <memory>
#include <optional>
#include <span>
#include <string_view>
#include <utility>
#include <variant>

#include <fmt/format.h>

#include "api/answer.h"
#include "api/content.h"
#include "api/json_writer.h"
#include "api/library.h"
#include "api/ollama/answers.h"
#include "api/ollama/errors.h"
#include "api/ollama/request.h"
#include "api/values.h"
#include "library/library.h"
#include "names/names.h"

namespace hearth::api::ollama {
namespace {

constexpr std::string_view kDigest = "sha256:";
constexpr std::size_t kDigestShown = 12;
constexpr std::string_view kNoManifest = "pull model manifest: file does not exist";  // as Ollama says it

std::string line_of_error(std::string const& text) {
    std::string out;
    JsonWriter json(out);
    json.begin_object().key("error").string(text).end_object();
    return out;
}

struct Asked {
    std::string model, source, destination;
    bool stream = true, insecure = false;
};

Verdict read_field(JsonView root, std::string_view name, std::string& out) {
    auto const value = root.find(name);
    return value ? read_string(name, *value, out) : std::nullopt;
}

std::variant<Asked, Problem> parse(http::Request const& request) {
    if (auto problem = check_content(request)) return *std::move(problem);
    auto parsed = parse_object(request.body);
    if (auto* problem = std::get_if<Problem>(&parsed)) return std::move(*problem);
    auto const root = std::get<JsonDocument>(parsed).root();
    Asked asked;
    // The later one is the newer name.
    if (auto problem = read_field(root, "name", asked.model)) return *std::move(problem);
    if (auto problem = read_field(root, "model", asked.model)) return *std::move(problem);
    if (auto problem = read_field(root, "source", asked.source)) return *std::move(problem);
    if (auto problem = read_field(root, "destination", asked.destination)) return *std::move(problem);
    if (auto const value = root.find("stream"))
        if (auto problem = read_boolean("stream", *value, asked.stream)) return *std::move(problem);
    if (auto const value = root.find("insecure"))
        if (auto problem = read_boolean("insecure", *value, asked.insecure)) return *std::move(problem);
    return asked;
}

// NAMESPACE/MODEL is Ollama's registry to its clients, where to us it is the hub.
std::string as_ollama_means(std::string const& name) {
    auto const parsed = names::parse_model_name(name);
    return parsed && parsed->host == names::kNameHostDefault ? names::short_name(*parsed) : name;
}

library::PullWish wish_of(Asked const& asked) {
    library::PullWish wish;
    wish.model = asked.model;
    wish.insecure = asked.insecure;
    auto const parsed = names::parse_model_name(asked.model);
    bool const spaced = parsed && asked.model.find('/') != std::string::npos;
    if (spaced && parsed->host == names::kNameHostDefault) wish.model = names::full_name(*parsed);
    return wish;
}

Problem problem_of(Error const& error, std::string const& model) {
    return error.code == Code::not_found ? model_not_found(model) : library_problem(error);
}

net::Task<void> refuse(Services& services, http::Exchange& exchange, Problem problem) {
    return send_problem(services, exchange, std::move(problem), error_response);
}

net::Task<void> done(http::Exchange& exchange) {
    http::Response response;
    response.content_type.clear();
    co_await exchange.send(std::move(response));
}

// A field that must be there.
struct Needed {
    std::string_view name;
    std::string Asked::* field;
};
constexpr std::array kModelNeeded{Needed{"model", &Asked::model}};
constexpr std::array kNamesNeeded{Needed{"source", &Asked::source}, Needed{"destination", &Asked::destination}};

struct Opened {
    Asked asked;
    library::Library* library = nullptr;
};

std::variant<Opened, Problem> read_call(Services& services, http::Request const& request,
                                        std::span<Needed const> needed) {
    auto parsed = parse(request);
    if (auto* problem = std::get_if<Problem>(&parsed)) return std::move(*problem);
    Opened opened{std::get<Asked>(std::move(parsed)), nullptr};
    for (auto const& [name, field] : needed)
        if ((opened.asked.*field).empty()) return name == "model" ? model_required() : missing(name);
    auto const library = need_library(services);
    if (!library) return library_problem(library.error());
    opened.library = *library;
    return opened;
}

// What every call here begins with. Nothing: it was refused, and that was answered.
net::Task<std::optional<Opened>> open_call(Services& services, http::Exchange& exchange,
                                           std::span<Needed const> needed) {
    auto read = read_call(services, exchange.request(), needed);
    if (auto* opened = std::get_if<Opened>(&read)) co_return std::move(*opened);
    co_await refuse(services, exchange, std::get<Problem>(std::move(read)));
    co_return std::nullopt;
}

bool is_missing_source(library::JobFeed const& feed) {
    return feed.failure() && feed.failure()->code == Code::not_found && feed.job().kind == library::kPullKind;
}

// As it is now, with Ollama's words for what went wrong.
jobs::Job job_of(library::JobFeed const& feed) {
    auto job = feed.job();
    if (job.state == jobs::State::failed && is_missing_source(feed)) job.error = kNoManifest;
    return job;
}

Problem problem_of_job(library::JobFeed const& feed, JobWords const& words) {
    auto const job = job_of(feed);
    if (job.state != jobs::State::failed)
        return make_problem(Kind::request_cancelled, fmt::format("the {} is {}", words.job, to_string(job.state)));
    if (is_missing_source(feed)) return make_problem(Kind::model_not_found, job.error, "model");
    auto problem = feed.failure() ? library_problem(*feed.failure()) : make_problem(Kind::server_error, job.error);
    problem.message = job.error;
    return problem;
}

net::Task<void> stream_lines(Services& services, http::Exchange& exchange, JobWords const& words,
                             std::shared_ptr<library::JobFeed> feed) {
    http::StreamHead head;
    head.content_type = kStreamType;
    auto const opened = co_await exchange.start_stream(std::move(head));
    if (!opened) co_return;
    JobLines lines(words);
    for (bool alive = true; alive;) {
        auto const job = job_of(*feed);  // a copy: it may change while it is written
        auto const text = lines.next(job);
        if (!text.empty()) {
            auto const written = co_await exchange.write(text);
            if (!written) co_return;
        }
        if (is_final(job.state) || services.draining()) break;
        if (feed->job().revision == job.revision)
            static_cast<void>(co_await feed->changed_within(services.options.ping_interval));
        alive = !exchange.disconnected();
    }
    co_await exchange.end_stream();
}

net::Task<void> answer_when_over(Services& services, http::Exchange& exchange, JobWords const& words,
                                 std::shared_ptr<library::JobFeed> feed) {
    while (!is_final(feed->job().state) && !services.draining() && !exchange.disconnected())
        static_cast<void>(co_await feed->changed_within(services.options.ping_interval));
    if (feed->job().state != jobs::State::done) {
        co_await refuse(services, exchange, problem_of_job(*feed, words));
        co_return;
    }
    http::Response response;
    JsonWriter json(response.body);
    json.begin_object().key("status").string("success").end_object();
    co_await exchange.send(std::move(response));
}

net::Task<void> follow(Services& services, http::Exchange& exchange, Opened const& call, JobWords const& words,
                       Result<jobs::Job> const& job) {
    Result<std::shared_ptr<library::JobFeed>> feed = Error(Code::not_found, "");
    if (job) feed = co_await call.library->watch(job->id);
    if (!job || !feed) {
        auto const& error = job ? feed.error() : job.error();
        bool const unknown = !job && error.code == Code::not_found;
        co_await refuse(services, exchange, unknown ? model_not_found(call.asked.model) : library_problem(error));
        co_return;
    }
    if (call.asked.stream) co_await stream_lines(services, exchange, words, *feed);
    else co_await answer_when_over(services, exchange, words, *feed);
}

}  // namespace

void JobLines::status(std::string& out, std::string_view text) {
    if (text == words_.closing && !checked_ && !words_.check.empty()) status(out, words_.check);
    std::string line;
    JsonWriter json(line);
    json.begin_object().key("status").string(text).end_object();
    checked_ = checked_ || text == words_.check;
    closed_ = closed_ || text == words_.closing;
    out += line + '\n';
}

// One layer on its way, with the digest in full and in its name cut.
std::string JobLines::layer(jobs::Part const& part) const {
    std::string out;
    JsonWriter json(out);
    std::string_view const what = part.name;
    bool const hashed = what.starts_with(kDigest);
    auto const shown = hashed ? what.substr(kDigest.size(), kDigestShown) : what;
    json.begin_object().key("status").string(fmt::format("{}{}", words_.moving, shown));
    if (hashed) json.key("digest").string(what);
    if (part.total > 0) json.key("total").number(part.total);
    if (part.done > 0) json.key("completed").number(part.done);
    json.end_object();
    return out + '\n';
}

// Those that got further, and in the end those that were not told to be whole.
void JobLines::parts(std::string& out, jobs::Job const& job) {
    for (auto part : job.progress.parts) {
        if (job.state == jobs::State::done) part.done = part.total;
        auto& told = told_[part.name];
        bool const begun = part.done > 0 || job.progress.text.ends_with(part.name) || job.state == jobs::State::done;
        bool const news = told.name.empty() || told.done != part.done || told.total != part.total;
        if (!begun || !news) continue;
        out += layer(part);
        told = std::move(part);
    }
}

void JobLines::word(std::string& out, jobs::Progress const& progress) {
    auto const& text = progress.text;
    if (text.empty() || text == words_.opening || text == "success") return;
    bool const moving = text.starts_with(words_.moving) && text != words_.closing;
    if (moving && !progress.parts.empty()) return;  // its parts say it
    // One of several parts is checked while others are on their way.
    bool const whole = std::ranges::all_of(progress.parts, [](auto const& part) { return part.done >= part.total; });
    if (text == words_.check && !whole) return;
    if (moving) out += layer({text.substr(words_.moving.size()), progress.done, progress.total});
    else if (text == words_.check ? !checked_ : text != words_.closing || !closed_) status(out, text);
}

std::string JobLines::next(jobs::Job const& job) {
    std::string out;
    if (!std::exchange(opened_, true)) status(out, words_.opening);
    auto const& [done, total, text, all] = job.progress;
    auto now = fmt::format("{}|{}|{}|{}", to_string(job.state), text, done, total);
    if (now == std::exchange(last_, now)) return out;
    if (job.state == jobs::State::failed || job.state == jobs::State::cancelled)
        return out + line_of_error(job.error.empty() ? fmt::format("the {} was cancelled", words_.job) : job.error) +
               '\n';
    parts(out, job);
    if (job.state == jobs::State::done) {
        // What went too fast to be told is told now: clients wait for it.
        if (!closed_) status(out, words_.closing);
        status(out, "success");
    } else if (job.state == jobs::State::paused) {
        status(out, "paused");
    } else {
        word(out, job.progress);
    }
    return out;
}

net::Task<void> pull_model(Services& services, http::Exchange& exchange) {
    auto const call = co_await open_call(services, exchange, kModelNeeded);
    if (!call) co_return;
    auto wish = wish_of(call->asked);
    auto const job = co_await call->library->pull(std::move(wish));
    co_await follow(services, exchange, *call, kPullWords, job);
}

net::Task<void> push_model(Services& services, http::Exchange& exchange) {
    auto const call = co_await open_call(services, exchange, kModelNeeded);
    if (!call) co_return;
    library::PushWish wish{as_ollama_means(call->asked.model), call->asked.insecure};
    auto const job = co_await call->library->push(std::move(wish));
    co_await follow(services, exchange, *call, kPushWords, job);
}

net::Task<void> copy_model(Services& services, http::Exchange& exchange) {
    auto const call = co_await open_call(services, exchange, kNamesNeeded);
    if (!call) co_return;
    auto destination = as_ollama_means(call->asked.destination);
    auto const copied = co_await call->library->copy(call->asked.source, std::move(destination));
    if (copied) co_await done(exchange);
    else co_await refuse(services, exchange, problem_of(copied.error(), call->asked.source));
}

net::Task<void> delete_model(Services& services, http::Exchange& exchange) {
    auto const call = co_await open_call(services, exchange, kModelNeeded);
    if (!call) co_return;
    auto const removed = co_await call->library->remove(call->asked.model);
    if (removed) co_await done(exchange);
    else co_await refuse(services, exchange, problem_of(removed.error(), call->asked.model));
}

}  // namespace hearth::api::ollama
