#include "bench/session.h"

#include <poll.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <utility>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

namespace hearth::bench {

namespace {

using Json = nlohmann::json;

constexpr std::size_t kPromptsMax = 100'000;
constexpr std::size_t kPromptBytesMax = 4U << 20;
constexpr auto kReadyPollEvery = std::chrono::milliseconds(20);
constexpr auto kMetaTimeout = std::chrono::seconds(10);
constexpr std::uint64_t kProbeSeed = 0x70726F6265ULL;  // apart from the seeds of measured prompts

Duration seconds(double s) { return std::chrono::duration_cast<Duration>(std::chrono::duration<double>(s)); }

Result<std::vector<std::string>> read_prompts(std::string const& path) {
    std::ifstream in(path);
    if (!in) return Error{Code::invalid_argument, fmt::format("cannot open the prompts file {}", path), "prompts"};
    std::vector<std::string> prompts;
    std::string line;
    while (std::getline(in, line)) {
        if (line.empty()) continue;
        if (prompts.size() == kPromptsMax || line.size() > kPromptBytesMax) {
            return Error{
                Code::too_large,
                fmt::format("{}: more than {} prompts, or one above {} bytes", path, kPromptsMax, kPromptBytesMax),
                "prompts"};
        }
        auto const parsed = line.front() == '"' ? Json::parse(line, nullptr, false) : Json();
        prompts.push_back(parsed.is_string() ? parsed.get<std::string>() : line);
    }
    if (prompts.empty()) return Error{Code::invalid_argument, fmt::format("{} has no prompts", path), "prompts"};
    return prompts;
}

Status wait_ready(Target const& target, double timeout_s) {
    auto const deadline = std::chrono::steady_clock::now() + seconds(timeout_s);
    for (;;) {
        auto const answer = http_get(target, "/health", std::chrono::seconds(1));
        if (answer) return ok();
        if (std::chrono::steady_clock::now() >= deadline) {
            return Error{Code::unavailable, fmt::format("not ready within {} s: {}", timeout_s, answer.error().message),
                         "ready-timeout"};
        }
        ::poll(nullptr, 0, static_cast<int>(kReadyPollEvery.count()));
    }
}

Result<std::string> first_model(Target const& target) {
    HEARTH_TRY(auto const body, http_get(target, "/v1/models", kMetaTimeout));
    auto const list = Json::parse(body, nullptr, false);
    if (list.is_object() && list.contains("data") && list["data"].is_array() && !list["data"].empty()) {
        auto const& first = list["data"][0];
        if (first.is_object() && first.contains("id") && first["id"].is_string()) return first["id"].get<std::string>();
    }
    return Error{Code::unavailable, "the server lists no model; name one with --model", "model"};
}

}  // namespace

Result<std::unique_ptr<Session>> Session::create(ServeOptions const& options) {
    HEARTH_TRY(auto target, parse_url(options.url));
    std::unique_ptr<Session> session(new Session(options));
    if (options.ready_timeout_s > 0) HEARTH_CHECK(wait_ready(target, options.ready_timeout_s));
    session->model_ = options.model;
    if (session->model_.empty()) {
        HEARTH_TRY(session->model_, first_model(target));
    }
    if (!options.prompts_file.empty()) {
        HEARTH_TRY(session->prompts_, read_prompts(options.prompts_file));
    }
    auto body = options.extra_body.empty() ? Json::object() : Json::parse(options.extra_body);
    auto const defaults = Json{{"model", session->model_},
                               {"stream", true},
                               {"stream_options", {{"include_usage", true}}},
                               {"temperature", options.temperature}};
    for (auto const& [key, value] : defaults.items()) {
        if (!body.contains(key)) body[key] = value;
    }
    if (options.ignore_eos && !body.contains("ignore_eos")) body["ignore_eos"] = true;
    session->body_head_ = body.dump();
    session->body_head_.pop_back();  // the closing brace
    auto const chat = options.endpoint == Endpoint::chat;
    session->body_head_ += chat ? R"(,"messages":[{"role":"user","content":)" : R"(,"prompt":)";
    session->body_tail_ = chat ? "}]}" : "}";
    session->path_ = chat ? "/v1/chat/completions" : "/v1/completions";

    ClientOptions client;
    client.target = std::move(target);
    client.streams_max = options.mode == Mode::closed         ? options.concurrency
                         : options.mode == Mode::interference ? std::min(options.concurrency + 1, kStreamsMax)
                                                              : options.streams_max;
    client.request_timeout = seconds(options.request_timeout_s);
    client.keep_text = options.keep_text ? KeepText::yes : KeepText::no;
    if (!options.api_key.empty()) client.headers = fmt::format("Authorization: Bearer {}\r\n", options.api_key);
    HEARTH_TRY(session->client_, LoadClient::create(std::move(client)));
    return session;
}

std::size_t Session::send(PlannedRequest const& request, std::size_t number) {
    auto const text = prompts_.empty() ? render(request.prompt) : prompts_[number % prompts_.size()];
    // A prompts file may hold anything; a byte that is no UTF-8 becomes U+FFFD.
    auto const prompt = Json(text).dump(-1, ' ', false, Json::error_handler_t::replace);
    // max_tokens stands in front, where the dumped options begin with '{'.
    return client_->start(path_, fmt::format("{{\"max_tokens\":{},{}{}{}", request.output_tokens,
                                             std::string_view(body_head_).substr(1), prompt, body_tail_));
}

Result<RequestResult> Session::send_and_wait(PlannedRequest const& request) {
    auto const index = send(request, 0);
    while (client_->result(index).outcome == Outcome::pending) client_->poll(std::chrono::seconds(1));
    return client_->result(index);
}

Result<std::uint64_t> Session::prompt_length(std::uint32_t words) {
    HEARTH_TRY(auto const answer, send_and_wait({0, 1, {{kProbeSeed + ++probes_, words}}}));
    if (answer.outcome != Outcome::completed && answer.outcome != Outcome::no_output) {
        return Error{Code::unavailable, fmt::format("asking for the length of {} words: {}: {}", words,
                                                    to_string(answer.outcome), answer.problem)};
    }
    if (!answer.usage || answer.usage->prompt_tokens == 0) {
        return Error{Code::unsupported, "the server reports no usage.prompt_tokens; give --prompt-words instead",
                     "prompt-tokens"};
    }
    return answer.usage->prompt_tokens;
}

Result<std::uint32_t> Session::words_for_tokens(std::uint32_t tokens) {
    // A line through two lengths, then again with a length close to the one
    // asked for, since a sample of few words says little about many.
    auto const few = std::max<std::uint32_t>(1, tokens / 32);
    auto many = few + std::max<std::uint32_t>(3, tokens / 8);
    HEARTH_TRY(auto const few_tokens, prompt_length(few));
    for (int pass = 0; pass < 2; ++pass) {
        HEARTH_TRY(auto const many_tokens, prompt_length(many));
        auto const slope = (static_cast<double>(many_tokens) - static_cast<double>(few_tokens)) / (many - few);
        if (!(slope > 0))
            return Error{Code::unsupported, "the server's prompt_tokens do not grow with the prompt", "prompt-tokens"};
        words_per_token_ = 1 / slope;
        auto const words = few + (static_cast<double>(tokens) - static_cast<double>(few_tokens)) / slope;
        if (words < 1) {
            return Error{Code::invalid_argument,
                         fmt::format("a prompt cannot be as short as {} tokens: {} words are {} tokens already", tokens,
                                     few, few_tokens),
                         "prompt-tokens"};
        }
        if (pass == 1) return static_cast<std::uint32_t>(std::lround(words));
        many = std::max(many, static_cast<std::uint32_t>(words * 0.9));
    }
    return Error{Code::internal, "unreachable"};
}

}  // namespace hearth::bench
