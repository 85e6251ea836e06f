#include "llama/chat_template.h"

#include <fmt/format.h>
#include <jinja/caps.h>
#include <jinja/lexer.h>
#include <jinja/parser.h>
#include <jinja/runtime.h>
#include <jinja/value.h>

#include <ctime>
#include <exception>

#include "llama/template_guard.h"

namespace hearth::llama {

namespace {

using domain::Message;

void replace_all(std::string& text, std::string_view from, std::string_view to) {
    for (std::size_t at = 0; (at = text.find(from, at)) != std::string::npos; at += to.size())
        text.replace(at, from.size(), to);
}

// Tests in published templates that the engine cannot evaluate and whose outcome
// is known; the same replacements as in llama-server.
void repair_source(std::string& source) {
    replace_all(source,
                "{%- if \"<|channel|>analysis<|message|>\" in message.content or "
                "\"<|channel|>final<|message|>\" in message.content %}",
                "{%- if false %}");
    replace_all(source,
                "{%- if (message['content'] is none or message['content'] == '' or message['content']|length == 0) and "
                "(message['tool_calls'] is not defined or message['tool_calls'] is none or "
                "message['tool_calls']|length == 0) %}",
                "{%- if false %}");
}

// As llama-server knows them.
std::vector<std::string> stops_of(std::string_view source) {
    auto const has = [&](std::string_view needle) { return source.find(needle) != std::string_view::npos; };
    if (has("laguna_glm_thinking")) return {"</assistant>"};
    if (has("<role>ASSISTANT</role>") && has("<arg_key>")) return {"<|role_end|>"};
    return {};
}

// Upstream wraps what went wrong in a report with source lines; the last line
// holds the reason.
std::string reason_of(std::exception const& e) {
    std::string_view text = e.what();
    if (auto const at = text.rfind("Error: "); at != std::string_view::npos) text.remove_prefix(at + 7);
    return std::string(text.substr(0, 500));
}

bool is_known_role(std::string_view role) {
    return role == "system" || role == "user" || role == "assistant" || role == "tool";
}

jinja::value plain_string(std::string const& text) {
    auto value = jinja::mk_val<jinja::value_string>(text);
    value->mark_input();
    return value;
}

std::string today(char const* format) {
    std::time_t const now = std::time(nullptr);
    std::tm local{};
    localtime_r(&now, &local);
    char buffer[32];
    return std::string(buffer, std::strftime(buffer, sizeof(buffer), format, &local));
}

std::string trimmed(std::string_view text) {
    constexpr std::string_view kSpace = " \t\n\r\f\v";
    auto const begin = text.find_first_not_of(kSpace);
    if (begin == std::string_view::npos) return {};
    return std::string(text.substr(begin, text.find_last_not_of(kSpace) - begin + 1));
}

}  // namespace

struct ChatTemplate::Program {
    jinja::program program;
    jinja::caps caps;
    std::string source, bos_text, eos_text;
    bool trims_content = false;

    // Messages as the template can take them.
    [[nodiscard]] std::vector<Message> adapt(std::vector<Message> messages) const {
        // A template without a system role gets the text in the message after it, or as the user's.
        if (!caps.supports_system_role && !messages.empty() && messages.front().role == "system") {
            if (messages.size() == 1) {
                messages[0].role = "user";
            } else {
                messages[1].content = messages[0].content + "\n" + messages[1].content;
                messages.erase(messages.begin());
            }
        }
        if (trims_content)
            for (auto& message : messages) message.content = trimmed(message.content);
        return messages;
    }

    [[nodiscard]] jinja::value content_value(std::string const& content) const {
        if (caps.supports_string_content || !caps.supports_typed_content) return plain_string(content);
        auto part = jinja::mk_val<jinja::value_object>();
        part->insert("type", jinja::mk_val<jinja::value_string>(std::string("text")));
        part->insert("text", plain_string(content));
        auto parts = jinja::mk_val<jinja::value_array>();
        parts->push_back(part);
        return parts;
    }

    void fill(jinja::context& context, domain::ChatPrompt const& prompt) const {
        auto list = jinja::mk_val<jinja::value_array>();
        for (Message const& message : adapt(prompt.messages)) {
            auto object = jinja::mk_val<jinja::value_object>();
            object->insert("role", is_known_role(message.role)
                                       ? jinja::value(jinja::mk_val<jinja::value_string>(message.role))
                                       : plain_string(message.role));
            object->insert("content", content_value(message.content));
            list->push_back(object);
        }
        auto const text = [](std::string const& value) { return jinja::mk_val<jinja::value_string>(value); };
        context.set_val("messages", list);
        context.set_val("bos_token", text(bos_text));
        context.set_val("eos_token", text(eos_text));
        context.set_val("enable_thinking", jinja::mk_val<jinja::value_bool>(true));
        context.set_val("datetime", text(today("%b %d %Y")));
        context.set_val("date_string", text(today("%d %b %Y")));
        if (prompt.add_generation_prompt)
            context.set_val("add_generation_prompt", jinja::mk_val<jinja::value_bool>(true));
    }
};

ChatTemplate::ChatTemplate() = default;
ChatTemplate::~ChatTemplate() = default;
ChatTemplate::ChatTemplate(ChatTemplate&&) noexcept = default;
ChatTemplate& ChatTemplate::operator=(ChatTemplate&&) noexcept = default;

Result<ChatTemplate> ChatTemplate::create(std::string source, std::string bos_text, std::string eos_text) {
    if (source.size() > domain::kTemplateBytesMax)
        return Error(Code::unsupported, fmt::format("the model's chat template has {} bytes; at most {} are read",
                                                    source.size(), domain::kTemplateBytesMax));
    repair_source(source);
    ChatTemplate out;
    out.program_ = std::make_unique<Program>();
    Program& program = *out.program_;
    try {
        jinja::lexer lexer;
        auto const tokens = lexer.tokenize(source);
        HEARTH_CHECK(check_template_shape(tokens));
        program.program = jinja::parse_from_tokens(tokens);
        insert_template_guards(program.program);
        program.source = tokens.source;
        TemplateBudget const budget;
        program.caps = jinja::caps_get(program.program);  // runs it on samples; never throws for what they raise
    } catch (std::exception const& e) {
        return Error(Code::unsupported, fmt::format("the model's chat template cannot be parsed: {}", reason_of(e)));
    }
    program.bos_text = std::move(bos_text);
    program.eos_text = std::move(eos_text);
    program.trims_content =
        source.find("You have access to the following functions in JSONSchema format") != std::string::npos;
    out.additional_stops_ = stops_of(source);
    return out;
}

Result<RenderedText> ChatTemplate::render(domain::ChatPrompt const& prompt) const {
    std::size_t bytes_max = kRenderedSlackBytes;
    for (Message const& message : prompt.messages) bytes_max += 4 * (message.role.size() + message.content.size());

    RenderedText out;
    try {
        TemplateBudget const budget;
        jinja::context context(program_->source);
        program_->fill(context, prompt);
        jinja::runtime runtime(context);
        auto const parts = jinja::runtime::gather_string_parts(runtime.execute(program_->program));
        for (auto const& part : parts->val_str.parts) {
            if (out.text.size() + part.val.size() > bytes_max)
                return Error(Code::too_large,
                             fmt::format("the chat template makes more than {} bytes of these messages", bytes_max));
            if (part.is_input && !part.val.empty())
                out.plain.push_back({out.text.size(), out.text.size() + part.val.size()});
            out.text += part.val;
        }
    } catch (std::exception const& e) {
        return Error(Code::invalid_argument,
                     fmt::format("the model's chat template rejects the messages: {}", reason_of(e)), "messages");
    }
    return out;
}

}  // namespace hearth::llama
