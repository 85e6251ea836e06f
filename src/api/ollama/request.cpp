#include "api/ollama/request.h"
#include "api/ollama/errors.h"

#include <algorithm>
#include <utility>

#include <fmt/format.h>

#include "api/definition.h"
#include "api/embedding.h"
#include "api/field_table.h"
#include "api/ollama/fields.h"
#include "modelfile/known_templates.h"

namespace hearth::api::ollama {
namespace {

// What one field alone cannot tell.
Verdict check_together(Draft const& draft) {
    bool const templated = !draft.system.empty() || !draft.custom_template.empty() || !draft.request.context.empty();
    if (draft.raw && templated) return invalid_value("raw", "raw mode does not support template, system, or context");
    if (!draft.custom_template.empty() && modelfile::find_known_template(draft.custom_template) == nullptr) {
        return unsupported("template",
                           "\"template\" is none of the templates this server knows: it renders Jinja, and for those "
                           "alone it has the Jinja that says the same");
    }
    if (draft.top_logprobs.value_or(0) > 0 && !draft.logprobs)
        return invalid_value("top_logprobs", "\"top_logprobs\" needs \"logprobs\" to be true");
    if (!draft.truncate.value_or(true) && draft.shift.value_or(false)) {
        return unsupported("shift",
                           "\"shift\": true with \"truncate\": false is not supported by this server: an output can "
                           "make room only where a prompt may, too");
    }
    return std::nullopt;
}

domain::Overflow overflow_of(Draft const& draft) {
    if (!draft.truncate.value_or(true)) return domain::Overflow::error;
    return draft.shift.value_or(true) ? domain::Overflow::shift : domain::Overflow::truncate_middle;
}

domain::Prompt take_prompt(Draft& draft) {
    if (draft.surface == Surface::chat) {
        if (draft.definition != nullptr) open_conversation(*draft.definition, Opening::all, draft.chat.messages);
        return std::move(draft.chat);
    }
    if (draft.raw) return domain::TextPrompt{std::move(draft.prompt), true};
    if (!draft.suffix.empty()) return domain::InfillPrompt{std::move(draft.prompt), std::move(draft.suffix)};
    domain::ChatPrompt chat;
    if (auto const* const known = modelfile::find_known_template(draft.custom_template)) chat.jinja = known->jinja;
    if (!draft.system.empty()) chat.messages.push_back({"system", std::move(draft.system)});
    chat.messages.push_back({"user", std::move(draft.prompt)});
    // What stands in a context has been opened already.
    auto const opening = draft.request.context.empty() ? Opening::all : Opening::system_only;
    if (draft.definition != nullptr) open_conversation(*draft.definition, opening, chat.messages);
    return chat;
}

// Between two texts there is no place for anything else.
Verdict check_suffix(Draft const& draft) {
    if (draft.suffix.empty()) return std::nullopt;
    std::string_view beside;
    if (draft.raw) beside = "raw";
    else if (!draft.system.empty()) beside = "system";
    else if (!draft.custom_template.empty()) beside = "template";
    else if (!draft.request.context.empty()) beside = "context";
    if (beside.empty()) return std::nullopt;
    return invalid_value("suffix", fmt::format("\"suffix\" cannot be used with \"{}\"", beside));
}

// validate() knows the samplers by OpenAI's names; two of them are others here.
Problem respelled(Error const& error) {
    auto problem = to_problem(error);
    constexpr std::pair<std::string_view, std::string_view> kNames[]{{"max_tokens", "num_predict"},
                                                                     {"n_keep", "num_keep"}};
    for (auto const& [theirs, ours] : kNames) {
        if (problem.param != theirs) continue;
        if (auto const at = problem.message.find(theirs); at != std::string::npos)
            problem.message.replace(at, theirs.size(), ours);
        problem.param = ours;
    }
    return problem;
}

Verdict fill(Draft&& draft, Call& call) {
    if (auto problem = check_suffix(draft)) return problem;
    bool const nothing =
        draft.surface == Surface::chat ? draft.chat.messages.empty() : draft.prompt.empty() && draft.suffix.empty();
    if (nothing) call.goal = draft.request.keep_alive == Duration::zero() ? Call::Goal::unload : Call::Goal::load;
    call.surface = draft.surface;
    call.lacks = draft.lacks;
    call.stream = draft.stream;
    call.num_ctx = draft.num_ctx;
    call.unknown_options = std::move(draft.unknown_options);
    call.model = std::move(draft.model);
    if (draft.logprobs) draft.request.top_logprobs = draft.top_logprobs.value_or(0);
    // Cut in its middle, a prompt to fill in would lose the place it is about.
    draft.request.overflow = draft.suffix.empty() ? overflow_of(draft) : domain::Overflow::error;
    draft.request.return_context = draft.surface == Surface::generate && !draft.raw;
    draft.request.prompt = nothing ? domain::Prompt(domain::TextPrompt{}) : take_prompt(draft);
    call.request = std::move(draft.request);
    if (auto const status = domain::validate(call.request); !status) return respelled(status.error());
    return std::nullopt;
}

}  // namespace

std::variant<JsonDocument, Problem> parse_object(std::string_view body) {
    if (body.find_first_not_of(" \t\r\n") == std::string_view::npos)
        return make_problem(Kind::invalid_json, "missing request body");
    auto document = JsonDocument::parse(body);
    if (!document) return make_problem(Kind::invalid_json, document.error().message);
    auto const kind = document->root().kind();
    if (kind != JsonKind::object)
        return make_problem(Kind::invalid_json, fmt::format("the body must be a JSON object, got {}", describe(kind)));
    return *std::move(document);
}

std::variant<Call, Problem> parse_request(Surface surface, std::string_view body,
                                          modelfile::Definition const* definition) {
    auto parsed = parse_object(body);
    if (auto* problem = std::get_if<Problem>(&parsed)) return std::move(*problem);
    auto const root = std::get<JsonDocument>(parsed).root();

    Draft draft;
    draft.surface = surface;
    draft.request.sampling.temperature = 0.8F;  // Ollama's defaults
    draft.request.sampling.top_k = 40;
    draft.request.sampling.top_p = 0.9F;
    if (definition != nullptr)
        if (auto problem = apply_parameters(*definition, draft.request)) return *std::move(problem);
    draft.definition = definition;
    if (auto problem = read_fields(fields(), root, draft)) return *std::move(problem);
    if (auto problem = check_together(draft)) return *std::move(problem);
    Call call;
    call.unknown_fields = unknown_fields(fields(), root, surface);
    if (auto problem = fill(std::move(draft), call)) return *std::move(problem);
    return call;
}

Verdict apply_definition(modelfile::Definition const& definition, std::string_view body, Call& call) {
    auto parsed = parse_request(call.surface, body, &definition);
    if (auto* problem = std::get_if<Problem>(&parsed)) return std::move(*problem);
    auto& request = std::get<Call>(parsed).request;
    request.model = call.request.model;
    request.deadlines = call.request.deadlines;
    request.tenant = call.request.tenant;
    call.request = std::move(request);
    return std::nullopt;
}

std::variant<EmbedCall, Problem> parse_embed(Surface surface, std::string_view body) {
    auto parsed = parse_object(body);
    if (auto* problem = std::get_if<Problem>(&parsed)) return std::move(*problem);
    auto const root = std::get<JsonDocument>(parsed).root();
    Draft draft;
    draft.surface = surface;
    if (auto problem = read_fields(fields(), root, draft)) return *std::move(problem);
    EmbedCall call;
    call.surface = surface;
    call.model = std::move(draft.model);
    call.dimensions = draft.dimensions;
    call.keep_alive = draft.request.keep_alive;
    call.unknown_fields = unknown_fields(fields(), root, surface);
    call.unknown_options = std::move(draft.unknown_options);
    for (auto& prompt : split_inputs(std::move(draft.inputs), draft.truncate.value_or(true))) {
        domain::GenerateRequest request;
        request.prompt = std::move(prompt);
        request.keep_alive = draft.request.keep_alive;
        if (auto const status = domain::validate(request); !status) return to_problem(status.error());
        call.generations.push_back(std::move(request));
    }
    return call;
}

Verdict settle(Call& call, domain::ModelInfo const& info) {
    auto const wanted = std::min(call.num_ctx.value_or(0), std::max(info.context_train, info.context_request));
    if (wanted > std::max(info.context_request, info.kv_cells)) {
        return invalid_value(
            "num_ctx",
            fmt::format("option \"num_ctx\" is {}, but the KV cache of \"{}\" holds {} tokens: start the server with "
                        "a larger --ctx or --kv-cells",
                        *call.num_ctx, call.model, info.kv_cells));
    }
    call.request.context_tokens = wanted;
    if (std::holds_alternative<domain::InfillPrompt>(call.request.prompt) && !info.infills)
        return does_not_support(call.model, "insert");
    bool const templated =
        call.surface == Surface::generate && std::holds_alternative<domain::ChatPrompt>(call.request.prompt);
    if (!templated || info.chat_template) return std::nullopt;
    auto& [messages, opens, jinja] = std::get<domain::ChatPrompt>(call.request.prompt);
    if (!jinja.empty()) return std::nullopt;
    if (messages.size() > 1) {
        return make_problem(Kind::unsupported_by_model,
                            fmt::format("\"{}\" has no chat template to put \"system\" into", call.model), "system");
    }
    auto text = std::move(messages.front().content);
    call.request.prompt = domain::TextPrompt{std::move(text)};
    return std::nullopt;
}

}  // namespace hearth::api::ollama
