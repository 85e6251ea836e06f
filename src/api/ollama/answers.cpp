#include "api/ollama/answers.h"

#include <span>
#include <utility>

#include "api/json_writer.h"
#include "api/ollama/errors.h"
#include "api/ollama/times.h"
#include "api/token_logprob.h"

namespace hearth::api::ollama {
namespace {

std::string_view spell(domain::FinishReason reason) {
    return reason == domain::FinishReason::length ? "length" : "stop";
}

std::int64_t nanoseconds(double ms) { return static_cast<std::int64_t>(ms * 1e6); }

void begin(JsonWriter& json, AnswerShape const& shape, std::string_view text) {
    json.begin_object();
    json.key("model").string(shape.model);
    json.key("created_at").string(rfc3339(shape.unix_ns()));
    if (shape.surface == Surface::chat) {
        json.key("message").begin_object().key("role").string("assistant").key("content").string(text).end_object();
    } else {
        json.key("response").string(text);
    }
}

void write_logprobs(JsonWriter& json, std::span<domain::SampledLogprob const> tokens) {
    if (tokens.empty()) return;
    json.key("logprobs").begin_array();
    for (auto const& token : tokens) {
        json.begin_object();
        write_token_logprob(json, token.chosen);
        if (!token.top.empty()) {
            json.key("top_logprobs").begin_array();
            for (auto const& top : token.top) {
                json.begin_object();
                write_token_logprob(json, top);
                json.end_object();
            }
            json.end_array();
        }
        json.end_object();
    }
    json.end_array();
}

// Behind the text of the last object, which it ends.
void end(JsonWriter& json, AnswerShape const& shape, domain::FinishReason reason, Totals const& totals) {
    auto const timings = totals.timings.value_or(domain::Timings{});
    json.key("done").boolean(true);
    json.key("done_reason").string(spell(reason));
    if (!totals.context.empty()) {
        json.key("context").begin_array();
        for (auto const token : totals.context) json.number(token);
        json.end_array();
    }
    json.key("total_duration").number(shape.elapsed_ns());
    json.key("load_duration").number(shape.load_ns);
    json.key("prompt_eval_count").number(totals.usage.prompt_tokens);
    json.key("prompt_eval_duration").number(nanoseconds(timings.prompt_ms));
    json.key("eval_count").number(totals.usage.completion_tokens);
    json.key("eval_duration").number(nanoseconds(timings.predicted_ms));
    // Ollama does both without a word.
    auto const& usage = totals.usage;
    if (usage.left_out_tokens > 0) json.key("left_out_tokens").number(usage.left_out_tokens);
    if (usage.context_shifts > 0)
        json.key("context_shifts").number(usage.context_shifts).key("shifted_tokens").number(usage.shifted_tokens);
    json.end_object();
}

class NdjsonStream final : public StreamAnswer {
public:
    explicit NdjsonStream(AnswerShape shape) : shape_(std::move(shape)) {}

    void begin(std::string&) override {}
    void progress(std::string&, std::uint32_t, domain::PromptProgress const&) override {}

    void delta(std::string& out, std::uint32_t, domain::Delta const& delta) override {
        if (delta.text.empty() && delta.logprobs.empty()) return;
        JsonWriter json(out);
        ollama::begin(json, shape_, delta.text);
        json.key("done").boolean(false);
        write_logprobs(json, delta.logprobs);
        json.end_object();
        out += '\n';
    }

    void choice_done(std::string&, std::uint32_t, domain::FinishReason reason) override { reason_ = reason; }

    void end(std::string& out, Totals const& totals) override {
        JsonWriter json(out);
        ollama::begin(json, shape_, "");
        ollama::end(json, shape_, reason_, totals);
        out += '\n';
    }

    void fail(std::string& out, Problem const& problem) override {
        out += error_body(problem);
        out += '\n';
    }

    void ping(std::string& out, serving::Waiting const& waiting) override {
        Interim interim{.text = "waiting", .ahead = waiting.ahead, .seconds = waiting.seconds};
        if (waiting.loaded_percent) {
            interim.text = "loading model";
            interim.done = *waiting.loaded_percent;
            interim.total = 100;
        }
        bool const waits = waiting.loaded_percent || waiting.ahead > 0 || waiting.seconds.value_or(0) > 0;
        if (waits) out += render_interim(shape_, interim);
    }

private:
    AnswerShape shape_;
    domain::FinishReason reason_ = domain::FinishReason::stop;
};

}  // namespace

std::unique_ptr<StreamAnswer> make_stream_answer(AnswerShape shape) {
    return std::make_unique<NdjsonStream>(std::move(shape));
}

std::string render_answer(AnswerShape const& shape, Answer const& answer) {
    auto const& choice = answer.choices.front();
    std::string out;
    JsonWriter json(out);
    begin(json, shape, choice.text);
    write_logprobs(json, choice.logprobs);
    end(json, shape, choice.reason, answer.totals);
    return out;
}

std::string render_interim(AnswerShape const& shape, Interim const& interim) {
    std::string out;
    JsonWriter json(out);
    begin(json, shape, "");
    json.key("done").boolean(false).key("status").string(interim.text);
    if (interim.total > 0) json.key("total").number(interim.total).key("completed").number(interim.done);
    if (interim.ahead > 0) json.key("ahead").number(interim.ahead);
    if (interim.seconds) json.key("seconds_left").number(*interim.seconds);
    json.end_object();
    return out + '\n';
}

std::string render_nothing(AnswerShape const& shape, std::string_view reason) {
    std::string out;
    JsonWriter json(out);
    begin(json, shape, "");
    json.key("done").boolean(true).key("done_reason").string(reason);
    json.end_object();
    return out;
}

}  // namespace hearth::api::ollama
