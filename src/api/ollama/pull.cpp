#include "api/ollama/pull.h"

#include <optional>
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
#include "models/names.h"

namespace hearth::api::ollama {
namespace {

constexpr std::string_view kPulling = "pulling ";
constexpr std::string_view kDigest = "sha256:";
constexpr std::string_view kVerifying = "verifying sha256 digest";
constexpr std::string_view kWriting = "writing manifest";
constexpr std::size_t kDigestShown = 12;

std::string line_of_error(std::string const& text) {
    std::string out;
    JsonWriter json(out);
    json.begin_object().key("error").string(text).end_object();
    return out;
}

// One layer on its way, with the digest in full and in its name cut.
std::string line_of_layer(jobs::Progress const& progress) {
    std::string out;
    JsonWriter json(out);
    auto what = std::string_view(progress.text).substr(kPulling.size());
    bool const hashed = what.starts_with(kDigest);
    auto const shown = hashed ? what.substr(kDigest.size(), kDigestShown) : what;
    json.begin_object().key("status").string(fmt::format("{}{}", kPulling, shown));
    if (hashed) json.key("digest").string(what);
    if (progress.total > 0) json.key("total").number(progress.total);
    if (progress.done > 0) json.key("completed").number(progress.done);
    json.end_object();
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
    auto const parsed = models::parse_model_name(name);
    return parsed && parsed->host == models::kNameHostDefault ? models::short_name(*parsed) : name;
}

library::PullWish wish_of(Asked const& asked) {
    library::PullWish wish;
    wish.model = asked.model;
    wish.insecure = asked.insecure;
    auto const parsed = models::parse_model_name(asked.model);
    bool const spaced = parsed && asked.model.find('/') != std::string::npos;
    if (spaced && parsed->host == models::kNameHostDefault) wish.model = models::full_name(*parsed);
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

net::Task<void> stream_lines(Services& services, http::Exchange& exchange, std::shared_ptr<library::JobFeed> feed) {
    http::StreamHead head;
    head.content_type = kStreamType;
    auto const opened = co_await exchange.start_stream(std::move(head));
    PullLines lines;
    for (bool alive = opened.has_value(); alive;) {
        auto const job = feed->job();  // a copy: it may change while it is written
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

net::Task<void> answer_when_over(Services& services, http::Exchange& exchange, std::shared_ptr<library::JobFeed> feed) {
    while (!is_final(feed->job().state) && !services.draining() && !exchange.disconnected())
        static_cast<void>(co_await feed->changed_within(services.options.ping_interval));
    auto const& job = feed->job();
    if (job.state != jobs::State::done) {
        auto const why = job.error.empty() ? fmt::format("the pull is {}", to_string(job.state)) : job.error;
        co_await refuse(services, exchange, make_problem(Kind::server_error, why));
        co_return;
    }
    http::Response response;
    JsonWriter json(response.body);
    json.begin_object().key("status").string("success").end_object();
    co_await exchange.send(std::move(response));
}

}  // namespace

void PullLines::status(std::string& out, std::string const& text) {
    if (text == kWriting && !verified_) status(out, std::string(kVerifying));
    std::string line;
    JsonWriter json(line);
    json.begin_object().key("status").string(text).end_object();
    verified_ = verified_ || text == kVerifying;
    written_ = written_ || text == kWriting;
    out += line + '\n';
}

std::string PullLines::next(jobs::Job const& job) {
    std::string out;
    if (last_.empty()) status(out, "pulling manifest");
    auto const& text = job.progress.text;
    auto const now = fmt::format("{}|{}|{}|{}", to_string(job.state), text, job.progress.done, job.progress.total);
    if (now == std::exchange(last_, now)) return out;
    if (job.state == jobs::State::failed || job.state == jobs::State::cancelled)
        return out + line_of_error(job.error.empty() ? "the pull was cancelled" : job.error) + '\n';
    if (job.state == jobs::State::done) {
        // What went too fast to be told is told now: clients wait for it.
        if (!written_) status(out, std::string(kWriting));
        status(out, "success");
    } else if (job.state == jobs::State::paused) {
        status(out, "paused");
    } else if (text.starts_with(kPulling) && text != "pulling manifest") {
        out += line_of_layer(job.progress) + '\n';
    } else if (!text.empty() && text != "pulling manifest" && text != "success") {
        status(out, text);
    }
    return out;
}

net::Task<void> pull_model(Services& services, http::Exchange& exchange) {
    auto parsed = parse(exchange.request());
    auto problem = std::holds_alternative<Problem>(parsed) ? Verdict(std::get<Problem>(parsed)) : std::nullopt;
    auto const library = need_library(services);
    if (!problem && std::get<Asked>(parsed).model.empty()) problem = missing("model");
    if (!problem && !library) problem = library_problem(library.error());
    if (problem) {
        co_await refuse(services, exchange, *std::move(problem));
        co_return;
    }
    auto const& asked = std::get<Asked>(parsed);
    auto wish = wish_of(asked);
    auto const job = co_await (*library)->pull(std::move(wish));
    Result<std::shared_ptr<library::JobFeed>> feed = Error(Code::not_found, "");
    if (job) feed = co_await (*library)->watch(job->id);
    if (!job || !feed) {
        co_await refuse(services, exchange, library_problem(job ? feed.error() : job.error()));
        co_return;
    }
    if (asked.stream) co_await stream_lines(services, exchange, *feed);
    else co_await answer_when_over(services, exchange, *feed);
}

net::Task<void> copy_model(Services& services, http::Exchange& exchange) {
    auto parsed = parse(exchange.request());
    auto problem = std::holds_alternative<Problem>(parsed) ? Verdict(std::get<Problem>(parsed)) : std::nullopt;
    auto const library = need_library(services);
    if (!problem && std::get<Asked>(parsed).source.empty()) problem = missing("source");
    if (!problem && std::get<Asked>(parsed).destination.empty()) problem = missing("destination");
    if (!problem && !library) problem = library_problem(library.error());
    if (problem) {
        co_await refuse(services, exchange, *std::move(problem));
        co_return;
    }
    auto const& asked = std::get<Asked>(parsed);
    auto destination = as_ollama_means(asked.destination);
    auto const copied = co_await (*library)->copy(asked.source, std::move(destination));
    if (copied) co_await done(exchange);
    else co_await refuse(services, exchange, problem_of(copied.error(), asked.source));
}

net::Task<void> delete_model(Services& services, http::Exchange& exchange) {
    auto parsed = parse(exchange.request());
    auto problem = std::holds_alternative<Problem>(parsed) ? Verdict(std::get<Problem>(parsed)) : std::nullopt;
    auto const library = need_library(services);
    if (!problem && std::get<Asked>(parsed).model.empty()) problem = missing("model");
    if (!problem && !library) problem = library_problem(library.error());
    if (problem) {
        co_await refuse(services, exchange, *std::move(problem));
        co_return;
    }
    auto const& asked = std::get<Asked>(parsed);
    auto const removed = co_await (*library)->remove(asked.model);
    if (removed) co_await done(exchange);
    else co_await refuse(services, exchange, problem_of(removed.error(), asked.model));
}

}  // namespace hearth::api::ollama
