#include "player.h"

#include <algorithm>
#include <array>
#include <stdexcept>
#include <utility>

#include <nlohmann/json.hpp>

#include "json_pattern.h"

namespace hearth::conformance {
namespace {

using Json = nlohmann::json;

std::string media_type(test::HttpAnswer const& answer) {
    auto const type = answer.header("content-type");
    return type.substr(0, type.find(';'));
}

constexpr std::string_view kEventStream = "text/event-stream";
constexpr std::string_view kLines = "application/x-ndjson";

bool is_stream(std::string_view type) { return type == kEventStream || type == kLines; }

// The events of a stream: without the blank lines between them, or lines.
std::vector<std::string> events_of(std::string_view type, std::string_view body) {
    std::string_view const separator = type == kLines ? "\n" : "\n\n";
    std::vector<std::string> events;
    for (auto end = body.find(separator); end != std::string_view::npos; end = body.find(separator)) {
        events.emplace_back(body.substr(0, end));
        body.remove_prefix(end + separator.size());
    }
    if (!body.empty()) events.emplace_back("unfinished: " + std::string(body));
    return events;
}

// Lines of an expectation; an indented line continues the one before.
std::vector<std::string> logical_lines(std::string_view text) {
    std::vector<std::string> lines;
    while (!text.empty()) {
        auto const end = std::min(text.find('\n'), text.size());
        auto const line = text.substr(0, end);
        text.remove_prefix(std::min(end + 1, text.size()));
        if (line.find_first_not_of(" \t") == std::string_view::npos) continue;
        bool const goes_on = (line.front() == ' ' || line.front() == '\t') && !lines.empty();
        if (goes_on) lines.back() += "\n" + std::string(line);
        else lines.emplace_back(line);
    }
    return lines;
}

constexpr std::string_view kData = "data: ";

// The JSON of an event, if it has one.
std::string_view payload(std::string_view event) {
    return event.starts_with(kData) ? event.substr(kData.size()) : event;
}

std::string event_difference(std::string const& pattern, std::string const& event) {
    auto const wanted = payload(pattern);
    auto const got = payload(event);
    if (wanted.starts_with('{') && got.starts_with('{')) return JsonPattern::parse(wanted).mismatch(got);
    return matches_text(pattern, event) ? "" : "expected " + pattern + ", got " + event;
}

// A line `...` stands for any number of events.
std::string events_difference(std::vector<std::string> const& patterns, std::size_t p,
                              std::vector<std::string> const& events, std::size_t e) {
    if (p == patterns.size()) return e == events.size() ? "" : "unexpected event " + events[e];
    if (patterns[p] == "...") {
        std::string why;
        for (auto next = e; next <= events.size(); ++next)
            if (why = events_difference(patterns, p + 1, events, next); why.empty()) return {};
        return why;
    }
    if (e == events.size()) return "the stream ended before " + patterns[p];
    if (auto why = event_difference(patterns[p], events[e]); !why.empty())
        return "event " + std::to_string(e) + ": " + why;
    return events_difference(patterns, p + 1, events, e + 1);
}

std::string body_difference(Expected const& expected, test::HttpAnswer const& answer) {
    auto const type = media_type(answer);
    if (is_stream(type)) return events_difference(logical_lines(expected.body), 0, events_of(type, answer.body), 0);
    bool const empty = expected.body.find_first_not_of(" \n\t") == std::string::npos;
    if (empty) return answer.body.empty() ? "" : "expected no body, got " + answer.body.substr(0, 200);
    if (type == "application/json") return JsonPattern::parse(expected.body).mismatch(answer.body);
    auto const text = expected.body.substr(0, expected.body.find_last_not_of(" \n\t") + 1);
    return matches_text(text, answer.body.substr(0, answer.body.find_last_not_of('\n') + 1))
               ? ""
               : "got the text " + answer.body.substr(0, 2000);
}

// What holds for every answer, whatever the case says.
std::string invariant_difference(test::HttpAnswer const& answer) {
    auto const id = answer.header("x-request-id");
    if (id.empty()) return "no x-request-id";
    auto const check = [&](std::string_view text) -> std::string {
        auto const json = Json::parse(text, nullptr, false);
        if (!json.is_object() || !json.contains("error")) return {};
        auto const& error = json["error"];
        if (error.is_null()) return {};  // of a job that has none
        if (error.is_string())
            return error.get<std::string>().empty() ? "an error without a text" : "";  // Ollama's shape
        for (auto const* name : {"message", "type", "param", "code", "request_id", "hint", "doc"})
            if (!error.contains(name)) return "an error without " + std::string(name);
        if (error["request_id"] != id) return "request_id is not x-request-id";
        if (error["doc"] != "/docs/errors#" + error["code"].get<std::string>()) return "doc does not lead to the code";
        return {};
    };
    auto const type = media_type(answer);
    if (!is_stream(type)) return type == "application/json" ? check(answer.body) : "";
    for (auto const& event : events_of(type, answer.body))
        if (auto why = check(payload(event)); !why.empty()) return why;
    return {};
}

std::string header_difference(Expected const& expected, test::HttpAnswer const& answer) {
    for (auto const& [name, pattern] : expected.headers) {
        if (pattern == "-") {
            if (answer.count(name) > 0) return "header " + name + " is there: " + answer.header(name);
        } else if (answer.count(name) == 0) {
            return "no header " + name;
        } else if (!matches_text(pattern, answer.header(name))) {
            return "header " + name + ": expected " + pattern + ", got " + answer.header(name);
        }
    }
    return {};
}

}  // namespace

std::string difference(Expected const& expected, test::HttpAnswer const& answer) {
    if (answer.status != expected.status)
        return "expected status " + std::to_string(expected.status) + ", got " + std::to_string(answer.status) + ": " +
               answer.body.substr(0, 500);
    if (!expected.content_type.empty() && media_type(answer) != expected.content_type)
        return "expected content type " + expected.content_type + ", got " + answer.header("content-type");
    if (auto why = header_difference(expected, answer); !why.empty()) return why;
    if (auto why = invariant_difference(answer); !why.empty()) return why;
    return body_difference(expected, answer);
}

std::string expectation_for(Expected const& old, test::HttpAnswer const& answer) {
    auto const type = media_type(answer);
    std::string out = std::to_string(answer.status) + (type.empty() ? "" : " " + type) + "\n";
    for (auto const& [name, pattern] : old.headers) {
        bool const still = matches_text(pattern, answer.header(name)) && answer.count(name) > 0;
        out += "header " + name + ": " + (answer.count(name) == 0 ? "-" : still ? pattern : answer.header(name)) + "\n";
    }
    if (type == "application/json" && !answer.body.empty()) return out + stable_pattern(answer.body) + "\n";
    if (!is_stream(type)) return out + answer.body + (answer.body.ends_with('\n') || answer.body.empty() ? "" : "\n");
    for (auto const& event : events_of(type, answer.body)) {
        auto const text = payload(event);
        out += event.substr(0, event.size() - text.size());
        out += text.starts_with('{') ? stable_pattern(text) : text;
        out += '\n';
    }
    return out;
}

Outcome Player::play() {
    for (std::size_t i = 0; i < file_.exchanges.size(); ++i)
        if (!play_exchange(file_.exchanges[i], i)) break;
    return std::move(outcome_);
}

bool Player::play_exchange(Exchange const& exchange, std::size_t index) {
    headers_.clear();
    for (auto const& step : exchange.steps) {
        try {
            auto const answer = perform(step, exchange.body);
            if (answer) compare(exchange, index, *answer);
        } catch (std::exception const& failure) {
            fail(step.line, step.word + " " + step.rest.substr(0, 60) + ": " + failure.what());
            return false;
        }
    }
    return true;
}

void Player::fail(std::size_t line, std::string const& what) {
    outcome_.failures.push_back(file_.path.string() + ":" + std::to_string(line) + ": " + what);
}

std::optional<test::HttpAnswer> Player::perform(Step const& step, std::string const& body) {
    if (perform_control(step) || perform_pending(step)) return std::nullopt;
    std::string_view rest = step.rest;
    if (step.word == "raw") {
        test::HttpClient client(world_.port());
        client.allow(world_.patience());
        client.send(expand(take_quoted(rest)));
        return client.read_answer();
    }
    if (step.word != "receive") return request(step.word, expand(step.rest), body);
    auto& waiting = pending(step.rest);
    waiting.client.allow(world_.patience());
    if (!waiting.head) waiting.head = waiting.client.read_head();
    auto answer = *waiting.head;
    if (answer.header("transfer-encoding") == "chunked") {
        answer.body = waiting.body;
        while (auto chunk = waiting.client.read_chunk()) answer.body += *chunk;
    } else {
        waiting.client.read_body(answer);
    }
    pending_.erase(step.rest);
    return answer;
}

// Steps that act on the server.
bool Player::perform_control(Step const& step) {
    std::string_view rest = step.rest;
    if (step.word == "header") {
        auto const colon = step.rest.find(':');
        if (colon == std::string::npos) throw std::runtime_error("no header: " + step.rest);
        headers_.emplace_back(step.rest.substr(0, colon),
                              expand(step.rest.substr(step.rest.find_first_not_of(' ', colon + 1))));
        return true;
    }
    if (step.word == "await") {
        while (!rest.empty()) {
            auto const item = take_word(rest);
            auto const equals = item.find('=');
            if (equals == std::string::npos) throw std::runtime_error("await NAME=VALUE, got " + item);
            world_.await(item.substr(0, equals), std::stoull(item.substr(equals + 1)));
        }
        return true;
    }
    if (step.word == "hold") return world_.hold(), true;
    if (step.word == "release") return world_.release(), true;
    if (step.word == "kill") return world_.kill_worker(), true;
    if (step.word == "drain") return world_.drain(), true;
    return false;
}

// Steps that act on a request whose answer is read later.
bool Player::perform_pending(Step const& step) {
    std::string_view rest = step.rest;
    if (step.word == "start") {
        auto const name = take_word(rest);
        auto const method = take_word(rest);
        auto const path = take_word(rest);
        auto& entry = pending_[name] = std::make_unique<Pending>(world_.port());
        entry->client.send(test::HttpClient::format(method, path, expand(rest), headers_));
        headers_.clear();
        return true;
    }
    if (step.word == "events") {  // at least so many have arrived
        auto& waiting = pending(take_word(rest));
        auto const wanted = std::stoul(std::string(rest));
        waiting.client.allow(world_.patience());
        try {
            if (!waiting.head) waiting.head = waiting.client.read_head();
            while (events_of(media_type(*waiting.head), waiting.body).size() < wanted) {
                auto const chunk = waiting.client.read_chunk();
                if (!chunk) throw std::runtime_error("the stream ended");
                waiting.body += *chunk;
            }
        } catch (std::exception const& failure) {
            throw std::runtime_error(std::string(failure.what()) + " after these events: " + waiting.body);
        }
        return true;
    }
    if (step.word == "hangup" || step.word == "close") {
        auto& client = pending(step.rest).client;
        if (step.word == "hangup") client.reset();
        else client.close();
        pending_.erase(step.rest);
        return true;
    }
    return false;
}

Player::Pending& Player::pending(std::string_view name) {
    auto const found = pending_.find(name);
    if (found == pending_.end()) throw std::runtime_error("nothing was started as '" + std::string(name) + "'");
    return *found->second;
}

test::HttpAnswer Player::request(std::string const& method, std::string const& path, std::string const& body) {
    constexpr std::array kMethods{"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"};
    if (std::ranges::find(kMethods, method) == kMethods.end())
        throw std::runtime_error("no step is called '" + method + "'");
    test::HttpClient client(world_.port());
    client.allow(world_.patience());
    client.send_what_is_taken(test::HttpClient::format(method, path, body, headers_));
    auto answer = client.read_head();
    if (method != "HEAD") client.read_body(answer);
    return answer;
}

void Player::compare(Exchange const& exchange, std::size_t index, test::HttpAnswer const& answer) {
    auto const why = difference(exchange.expected, answer);
    if (why.empty()) return;
    fail(exchange.steps.back().line, why);
    outcome_.expectations[index] = expectation_for(exchange.expected, answer);
}

}  // namespace hearth::conformance
