#include "api/openai/answers.h"

#include <string_view>
#include <utility>

#include <fmt/format.h>

#include "api/json_writer.h"
#include "api/openai/logprobs.h"

namespace hearth::api::openai {
namespace {

constexpr std::string_view kDone = "data: [DONE]\n\n";

std::string_view spell(domain::FinishReason reason) {
    return reason == domain::FinishReason::length ? "length" : "stop";
}

void write_usage(JsonWriter& json, domain::Usage const& usage) {
    json.begin_object();
    json.key("prompt_tokens").number(usage.prompt_tokens);
    json.key("completion_tokens").number(usage.completion_tokens);
    json.key("total_tokens").number(std::uint64_t{usage.prompt_tokens} + usage.completion_tokens);
    json.key("prompt_tokens_details").begin_object();
    json.key("cached_tokens").number(usage.cached_tokens).key("audio_tokens").number(0).end_object();
    json.key("completion_tokens_details").begin_object();
    json.key("reasoning_tokens").number(0).key("audio_tokens").number(0);
    json.key("accepted_prediction_tokens").number(0).key("rejected_prediction_tokens").number(0).end_object();
    if (usage.left_out_tokens > 0) json.key("left_out_tokens").number(usage.left_out_tokens);
    if (usage.context_shifts > 0) {
        json.key("context_shifts").number(usage.context_shifts);
        json.key("shifted_tokens").number(usage.shifted_tokens);
    }
    json.end_object();
}

// OpenAI's words for our classes.
std::string_view tier_of(domain::Priority priority) {
    switch (priority) {
        case domain::Priority::interactive: return "priority";
        case domain::Priority::normal: return "default";
        case domain::Priority::batch: return "flex";
    }
    return "default";
}

double per(double amount, double count) { return count > 0 ? amount / count : 0; }

// llama-server's names and meanings; queue_ms is ours, and so are those behind `truncated`, there only when
// something was left out of the prompt or dropped by a shift.
void write_timings(JsonWriter& json, domain::Timings const& t, domain::Usage const& usage) {
    json.begin_object();
    json.key("cache_n").number(t.cache_n);
    json.key("prompt_n").number(t.prompt_n);
    json.key("prompt_ms").number(t.prompt_ms);
    json.key("prompt_per_token_ms").number(per(t.prompt_ms, t.prompt_n));
    json.key("prompt_per_second").number(per(1000.0 * t.prompt_n, t.prompt_ms));
    json.key("predicted_n").number(t.predicted_n);
    json.key("predicted_ms").number(t.predicted_ms);
    json.key("predicted_per_token_ms").number(per(t.predicted_ms, t.predicted_n));
    json.key("predicted_per_second").number(per(1000.0 * t.predicted_n, t.predicted_ms));
    json.key("queue_ms").number(t.queue_ms);
    if (t.draft_n > 0) {
        json.key("draft_n").number(t.draft_n);
        json.key("draft_n_accepted").number(t.draft_n_accepted);
    }
    if (usage.left_out_tokens > 0 || usage.context_shifts > 0) json.key("truncated").boolean(true);
    if (usage.left_out_tokens > 0) json.key("left_out_n").number(usage.left_out_tokens);
    if (usage.context_shifts > 0)
        json.key("shift_n").number(usage.context_shifts).key("shifted_n").number(usage.shifted_tokens);
    json.end_object();
}

void write_identity(JsonWriter& json, Identity const& identity, std::string_view object) {
    json.key("id").string(identity.id);
    json.key("object").string(object);
    json.key("created").number(identity.created);
    json.key("model").string(identity.model);
    json.key("system_fingerprint").string(identity.fingerprint);
}

class OpenAiStream final : public StreamAnswer {
public:
    OpenAiStream(Identity identity, AnswerShape shape)
        : identity_(std::move(identity)),
          shape_(std::move(shape)),
          open_(shape_.generations * shape_.choices),
          offsets_(open_) {
        JsonWriter json(head_);
        head_ = "data: ";
        json.begin_object();
        write_identity(json, identity_, chat() ? "chat.completion.chunk" : "text_completion");
        if (shape_.tier_asked) json.key("service_tier").string(tier_of(shape_.priority));
        head_ += ",\"choices\":[";
        tail_ = shape_.include_usage ? "],\"usage\":null" : "]";
        text_tail_ =
            (chat() ? "\"}" : "\"") + std::string(",\"logprobs\":null,\"finish_reason\":null}") + tail_ + "}\n\n";
        for (std::uint32_t i = 0; i < open_; ++i)
            text_heads_.push_back(
                fmt::format("{}{{\"index\":{},{}", head_, i, chat() ? "\"delta\":{\"content\":\"" : "\"text\":\""));
    }

    void begin(std::string& out) override {
        for (std::uint32_t i = 0; i < text_heads_.size(); ++i) {
            if (chat()) {
                out += fmt::format(
                    "{}{{\"index\":{},\"delta\":{{\"role\":\"assistant\",\"content\":\"\"}},\"logprobs\":null,\"finish_"
                    "reason\":null}}{}}}\n\n",
                    head_, i, tail_);
            } else if (!shape_.echoes.empty()) {
                append_text(out, i, shape_.echoes[i / shape_.choices]);
            }
        }
    }

    void progress(std::string& out, std::uint32_t choice, domain::PromptProgress const& progress) override {
        out += head_;
        out +=
            fmt::format("{{\"index\":{},{},\"logprobs\":null,\"finish_reason\":null}}{},\"prompt_progress\":", choice,
                        chat() ? "\"delta\":{}" : "\"text\":\"\"", tail_);
        JsonWriter json(out);
        json.begin_object();
        json.key("total").number(progress.total).key("cache").number(progress.cached);
        json.key("processed").number(progress.processed).key("time_ms").number(progress.ms);
        json.end_object();
        out += "}\n\n";
    }

    void delta(std::string& out, std::uint32_t choice, domain::Delta const& delta) override {
        if (delta.logprobs.empty()) {
            if (!delta.text.empty()) append_text(out, choice, delta.text);
            return;
        }
        out += text_heads_[choice];
        append_escaped(out, delta.text);
        out += chat() ? "\"},\"logprobs\":" : "\",\"logprobs\":";
        JsonWriter json(out);
        if (chat()) write_chat_logprobs(json, delta.logprobs);
        else write_text_logprobs(json, delta.logprobs, offsets_[choice]);
        out += ",\"finish_reason\":null}";
        out += tail_;
        out += "}\n\n";
    }

    void choice_done(std::string& out, std::uint32_t choice, domain::FinishReason reason) override {
        // The last choice's chunk is kept open: the timings, known a moment later, ride on the last chunk.
        auto& target = --open_ == 0 ? held_ : out;
        target += head_;
        target += fmt::format("{{\"index\":{},{},\"logprobs\":null,\"finish_reason\":\"{}\"}}{}", choice,
                              chat() ? "\"delta\":{}" : "\"text\":\"\"", spell(reason), tail_);
        if (open_ > 0) out += "}\n\n";
    }

    void end(std::string& out, Totals const& totals) override {
        out += held_;
        JsonWriter json(out);
        if (shape_.include_usage) {
            out += "}\n\n";
            out += head_;
            out += "],\"usage\":";
            write_usage(json, totals.usage);
        }
        if (totals.timings) {
            out += ",\"timings\":";
            JsonWriter timings(out);
            write_timings(timings, *totals.timings, totals.usage);
        }
        out += "}\n\n";
        out += kDone;
    }

    void fail(std::string& out, Problem const& problem) override {
        out += "data: ";
        out += error_body(problem, identity_.request_id);
        out += "\n\n";
    }

    void ping(std::string& out, serving::Waiting const& waiting) override {
        if (waiting.loaded_percent) {
            out += fmt::format(": loading the model, {} %", *waiting.loaded_percent);
            if (waiting.seconds) out += fmt::format(", about {} s", *waiting.seconds);
            out += "\n\n";
        } else if (waiting.ahead == 0) out += ": ping\n\n";
        else if (!waiting.seconds) out += fmt::format(": waiting, {} ahead\n\n", waiting.ahead);
        else out += fmt::format(": waiting, {} ahead, about {} s\n\n", waiting.ahead, *waiting.seconds);
    }

private:
    [[nodiscard]] bool chat() const { return shape_.surface == Surface::chat; }

    void append_text(std::string& out, std::uint32_t choice, std::string_view text) {
        out += text_heads_[choice];
        append_escaped(out, text);
        out += text_tail_;
    }

    Identity identity_;
    AnswerShape shape_;
    std::uint32_t open_;                   // choices without a finish_reason
    std::vector<std::uint64_t> offsets_;   // per choice, code points so far
    std::string head_;                     // up to the first choice
    std::string tail_;                     // from behind it, without the last brace
    std::vector<std::string> text_heads_;  // per choice, up to the text
    std::string text_tail_;
    std::string held_;                     // the last finish chunk, without the last brace
};

void write_chat_choice(JsonWriter& json, AnswerShape const& shape, ChoiceAnswer const& choice, std::size_t index) {
    json.begin_object().key("index").number(index);
    json.key("message").begin_object();
    json.key("role").string("assistant").key("content").string(choice.text).key("refusal").null();
    json.key("annotations").begin_array().end_array().end_object();
    json.key("logprobs");
    if (shape.logprobs) write_chat_logprobs(json, choice.logprobs);
    else json.null();
    json.key("finish_reason").string(spell(choice.reason)).end_object();
}

void write_text_choice(JsonWriter& json, AnswerShape const& shape, ChoiceAnswer const& choice, std::size_t index) {
    json.begin_object().key("index").number(index);
    json.key("text").string(shape.echoes.empty() ? choice.text : shape.echoes[index / shape.choices] + choice.text);
    json.key("logprobs");
    std::uint64_t offset = 0;
    if (shape.logprobs) write_text_logprobs(json, choice.logprobs, offset);
    else json.null();
    json.key("finish_reason").string(spell(choice.reason)).end_object();
}

}  // namespace

std::string fingerprint(std::string_view build, std::string_view model) {
    std::uint64_t hash = 0xcbf29ce484222325U;  // FNV-1a
    for (auto const part : {build, std::string_view("\0", 1), model})
        for (char const c : part) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3U;
    return fmt::format("fp_{:010x}", hash & 0xFFFFFFFFFFU);
}

std::unique_ptr<StreamAnswer> make_stream_answer(Identity identity, AnswerShape shape) {
    return std::make_unique<OpenAiStream>(std::move(identity), std::move(shape));
}

std::string render_answer(Identity const& identity, AnswerShape const& shape, Answer const& answer) {
    std::string out;
    JsonWriter json(out);
    json.begin_object();
    bool const chat = shape.surface == Surface::chat;
    write_identity(json, identity, chat ? "chat.completion" : "text_completion");
    if (chat || shape.tier_asked) json.key("service_tier").string(tier_of(shape.priority));
    json.key("choices").begin_array();
    std::size_t index = 0;
    for (auto const& choice : answer.choices)
        (chat ? write_chat_choice : write_text_choice)(json, shape, choice, index++);
    json.end_array().key("usage");
    write_usage(json, answer.totals.usage);
    if (answer.totals.timings) {
        json.key("timings");
        write_timings(json, *answer.totals.timings, answer.totals.usage);
    }
    json.end_object();
    return out;
}

}  // namespace hearth::api::openai
