#include "api/openai/request.h"

#include <algorithm>
#include <array>
#include <limits>
#include <set>
#include <string>
#include <string_view>

#include <gtest/gtest.h>

#include "api/openai/fields.h"
#include "api/openai/messages.h"

namespace hearth::api::openai {
namespace {

// A chat body with `members` added.
std::string chat_body(std::string_view members) {
    return R"({"messages":[{"role":"user","content":"hi"}])" + (members.empty() ? "" : "," + std::string(members)) +
           "}";
}

Call accept(Surface surface, std::string const& body) {
    auto parsed = parse_request(surface, body);
    if (auto const* problem = std::get_if<Problem>(&parsed)) {
        ADD_FAILURE() << body << ": " << problem->message;
        Call none;
        none.generations.resize(1);
        return none;
    }
    return std::get<Call>(std::move(parsed));
}

Call chat(std::string_view members) { return accept(Surface::chat, chat_body(members)); }
Call text(std::string_view members) { return accept(Surface::text, "{" + std::string(members) + "}"); }

// A surface that has the field, and a body that asks for no more than it must.
Surface one_of(Field const& field) {
    if (field.surface != Surface::both && field.surface != Surface::all) return field.surface;
    return Surface::chat;
}
std::string least_body(Surface surface) {
    if (surface == Surface::embed) return R"({"input":"x"})";
    if (surface == Surface::rank) return R"({"query":"x","documents":["y"]})";
    return surface == Surface::text ? R"({"prompt":"x"})" : R"({"messages":[{"role":"user","content":"hi"}]})";
}

Problem refusal(Surface surface, std::string const& body) {
    auto parsed = parse_request(surface, body);
    if (auto const* problem = std::get_if<Problem>(&parsed)) return *problem;
    ADD_FAILURE() << "accepted: " << body.substr(0, 200);
    return {};
}

void expect_refused(std::string_view members, Kind kind, std::string_view param, std::string_view message = {}) {
    auto const problem = refusal(Surface::chat, chat_body(members));
    EXPECT_EQ(entry(problem.kind).code, entry(kind).code) << members << ": " << problem.message;
    EXPECT_EQ(problem.param, param) << members;
    if (!message.empty()) EXPECT_EQ(problem.message, message) << members;
}

void expect_messages_refused(std::string_view messages, Kind kind, std::string_view param) {
    auto const problem = refusal(Surface::chat, "{\"messages\":" + std::string(messages) + "}");
    EXPECT_EQ(entry(problem.kind).code, entry(kind).code) << messages << ": " << problem.message;
    EXPECT_EQ(problem.param, param) << messages;
}

TEST(ParseRequest, DefaultsToTheModelsOwnDistribution) {
    auto const call = chat("");
    ASSERT_EQ(call.generations.size(), 1U);
    domain::GenerateRequest expected;
    expected.prompt = domain::ChatPrompt{{{"user", "hi"}}, true};
    EXPECT_EQ(call.generations[0], expected);
    EXPECT_FALSE(call.stream);
    EXPECT_FALSE(call.include_usage);
    EXPECT_FALSE(call.logprobs);
}

TEST(ParseRequest, ReadsEverySamplerField) {
    auto const call = chat(
        R"("temperature":0.5,"top_k":7,"top_p":0.9,"min_p":0.1,"typical_p":0.8,"repeat_penalty":1.1,"repeat_last_n":32,
        "frequency_penalty":0.25,"presence_penalty":-0.25,"dry_multiplier":0.8,"dry_base":2,"dry_allowed_length":3,
        "dry_penalty_last_n":100,"dry_sequence_breakers":["a","b"],"xtc_probability":0.5,"xtc_threshold":0.2,
        "mirostat":2,
        "mirostat_tau":4,"mirostat_eta":0.2,"logit_bias":{"5":-100,"6":1.5},"seed":42,"ignore_eos":true)");
    domain::SamplingParams expected;
    expected.temperature = 0.5F;
    expected.top_k = 7;
    expected.top_p = 0.9F;
    expected.min_p = 0.1F;
    expected.typical_p = 0.8F;
    expected.repeat_penalty = 1.1F;
    expected.repeat_last_n = 32;
    expected.frequency_penalty = 0.25F;
    expected.presence_penalty = -0.25F;
    expected.dry_multiplier = 0.8F;
    expected.dry_base = 2;
    expected.dry_allowed_length = 3;
    expected.dry_penalty_last_n = 100;
    expected.dry_sequence_breakers = {"a", "b"};
    expected.xtc_probability = 0.5F;
    expected.xtc_threshold = 0.2F;
    expected.mirostat = domain::Mirostat::v2;
    expected.mirostat_tau = 4;
    expected.mirostat_eta = 0.2F;
    expected.logit_bias = {{5, -100}, {6, 1.5F}};
    expected.seed = 42;
    expected.ignore_eos = true;
    EXPECT_EQ(call.generations[0].sampling, expected);
}

TEST(ParseRequest, TakesNullAsAbsentForEveryField) {
    for (auto const& field : fields()) {
        constexpr std::array<std::string_view, 5> kNeeded{"messages", "prompt", "input", "query", "documents"};
        if (std::ranges::find(kNeeded, field.name) != kNeeded.end()) continue;
        auto const surface = one_of(field);
        auto const whole = least_body(surface);
        auto const with = whole.substr(0, whole.size() - 1) + ",\"" + std::string(field.name) + "\":null}";
        auto const call = accept(surface, with);
        auto const plain = accept(surface, whole);
        EXPECT_EQ(call.generations, plain.generations) << field.name;
        EXPECT_EQ(call.unknown_fields, "") << field.name;
    }
}

TEST(ParseRequest, NeverTakesAnObjectOfTheWrongKindForAnyField) {
    // No field means anything by an object with this member, but those that are free-form.
    std::set<std::string_view> const free_form{"metadata", "prompt_cache_options", "dynatemp_exponent",
                                               "adaptive_decay", "stream_options"};
    for (auto const& field : fields()) {
        if (free_form.contains(field.name)) continue;
        auto const surface = one_of(field);
        auto const body = "{\"" + std::string(field.name) + "\":{\"zz\":[1]}}";
        auto const problem = refusal(surface, body);
        EXPECT_TRUE(problem.param.starts_with(field.name)) << field.name << ": " << problem.message;
    }
}

TEST(ParseRequest, RefusesEveryRefusedFieldByName) {
    for (auto const& field : fields()) {
        if (field.action != Action::refused) continue;
        auto const surface = one_of(field);
        bool refused = false;
        for (std::string_view const value : {"true", "false", "7", "\"x\"", "[\"x\"]", "{\"type\":\"x\"}"}) {
            auto const whole = least_body(surface);
            auto const parsed = parse_request(surface, whole.substr(0, whole.size() - 1) + ",\"" +
                                                           std::string(field.name) + "\":" + std::string(value) + "}");
            auto const* problem = std::get_if<Problem>(&parsed);
            if (problem == nullptr) continue;
            EXPECT_TRUE(problem->param.starts_with(field.name))
                << field.name << '=' << value << ": " << problem->message;
            refused =
                refused || problem->kind == Kind::unsupported_parameter || problem->kind == Kind::unsupported_value;
        }
        EXPECT_TRUE(refused) << field.name;
    }
}

TEST(ParseRequest, LetsNeutralValuesOfRefusedFieldsPass) {
    for (std::string_view const member : {R"("tools":[])",
                                          R"("tool_choice":"none")",
                                          R"("tool_choice":"auto")",
                                          R"("response_format":{"type":"text"})",
                                          R"("modalities":["text"])",
                                          R"("store":false)",
                                          R"("service_tier":"auto")",
                                          R"("service_tier":"default")",
                                          R"("grammar":"")",
                                          R"("lora":[])",
                                          R"("id_slot":-1)",
                                          R"("top_n_sigma":-1)",
                                          R"("min_tokens":0)",
                                          R"("reasoning_effort":"none")",
                                          R"("reasoning_format":"auto")",
                                          R"("verbosity":"medium")",
                                          R"("skip_special_tokens":true)",
                                          R"("include_reasoning":true)",
                                          R"("priority":0)",
                                          R"("priority":"normal")",
                                          R"("cache_prompt":true)",
                                          R"("queue_timeout_ms":0)",
                                          R"("thinking_budget_tokens":-1)",
                                          R"("chat_template_kwargs":{})",
                                          R"("echo":false)"})
        EXPECT_EQ(chat(member).generations, chat("").generations) << member;
}

TEST(ParseRequest, NamesFieldLimitAndValue) {
    expect_refused(R"("temperature":"hot")", Kind::invalid_type, "temperature",
                   "'temperature' must be a number, got a string.");
    expect_refused(R"("temperature":-1)", Kind::invalid_value, "temperature",
                   "'temperature' must be between 0 and 100, got -1.");
    expect_refused(R"("temperature":1e300)", Kind::invalid_value, "temperature",
                   "'temperature' is out of range: 1e+300.");
    expect_refused(R"("top_p":1.5)", Kind::invalid_value, "top_p", "'top_p' must be between 0 and 1, got 1.5.");
    expect_refused(R"("n":0)", Kind::invalid_value, "n", "'n' must be between 1 and 16, got 0.");
    expect_refused(R"("n":17)", Kind::invalid_value, "n", "'n' must be between 1 and 16, got 17.");
    expect_refused(R"("n":1.5)", Kind::invalid_value, "n", "'n' must be an integer, got 1.5.");
    expect_refused(R"("n":"1")", Kind::invalid_type, "n", "'n' must be an integer, got a string.");
    expect_refused(R"("n":true)", Kind::invalid_type, "n", "'n' must be an integer, got a boolean.");
    expect_refused(R"("stream":1)", Kind::invalid_type, "stream", "'stream' must be a boolean, got an integer.");
    expect_refused(R"("model":5)", Kind::invalid_type, "model", "'model' must be a string, got an integer.");
    expect_refused(R"("top_k":99999999999)", Kind::invalid_value, "top_k",
                   "'top_k' must be between -1 and 16777216, got 99999999999.");
    expect_refused(R"("mirostat":3)", Kind::invalid_value, "mirostat", "'mirostat' must be between 0 and 2, got 3.");
    expect_refused(R"("repetition_penalty":0)", Kind::invalid_value, "repetition_penalty",
                   "'repetition_penalty' must be between 0.01 and 100, got 0.");
    expect_refused(R"("repetition_penalty":1,"repeat_penalty":0)", Kind::invalid_value, "repeat_penalty",
                   "'repeat_penalty' must be between 0.01 and 100, got 0.");
    expect_refused(R"("tools":[{"type":"function"}])", Kind::unsupported_parameter, "tools",
                   "'tools' is not supported by this server: got an array of 1, it must be absent or empty.");
    expect_refused(R"("n_probs":5)", Kind::unsupported_parameter, "n_probs",
                   "'n_probs' is not supported by this server: got 5, it must be 0; use logprobs.");
    expect_refused(R"("store":true)", Kind::unsupported_parameter, "store",
                   "'store' is not supported by this server: got true, it must be false.");
    expect_refused(R"("top_p":1.1)", Kind::invalid_value, "top_p", "'top_p' must be between 0 and 1, got 1.1.");
    expect_refused(R"("tool_choice":"required")", Kind::unsupported_value, "tool_choice",
                   "'tool_choice' supports 'none' and 'auto' only on this server, got 'required'.");
    expect_refused(R"("response_format":{"type":"json_object"})", Kind::unsupported_value, "response_format.type",
                   "'response_format.type' supports 'text' only on this server, got 'json_object'.");
    expect_refused(R"("response_format":{})", Kind::missing_required_parameter, "response_format.type");
    expect_refused(R"("stream_options":{"include_obfuscation":true})", Kind::unsupported_parameter,
                   "stream_options.include_obfuscation");
    expect_refused(R"("stream_options":{"include_usage":"yes"})", Kind::invalid_type, "stream_options.include_usage");
}

TEST(ParseRequest, ReadsTheClassInEveryWordForIt) {
    auto const priority = [](std::string const& members) { return chat(members).generations[0].priority; };
    using domain::Priority;
    EXPECT_EQ(priority(""), Priority::normal);
    EXPECT_EQ(priority(R"("priority":"interactive")"), Priority::interactive);
    EXPECT_EQ(priority(R"("priority":"batch")"), Priority::batch);
    EXPECT_EQ(priority(R"("priority":-3)"), Priority::interactive);
    EXPECT_EQ(priority(R"("priority":1)"), Priority::batch);
    EXPECT_EQ(priority(R"("priority":0)"), Priority::normal);
    EXPECT_EQ(priority(R"("service_tier":"priority")"), Priority::interactive);
    EXPECT_EQ(priority(R"("service_tier":"flex")"), Priority::batch);
    EXPECT_EQ(priority(R"("service_tier":"auto")"), Priority::normal);
    EXPECT_EQ(priority(R"("service_tier":"flex","priority":"interactive")"), Priority::interactive);
    EXPECT_TRUE(chat(R"("service_tier":"auto")").tier_asked);
    EXPECT_FALSE(chat(R"("priority":1)").tier_asked);
    expect_refused(R"("priority":"high")", Kind::invalid_value, "priority",
                   "'priority' must be one of 'interactive', 'normal', 'batch', got 'high'.");
    expect_refused(R"("priority":0.5)", Kind::invalid_type, "priority",
                   "'priority' must be a string or an integer, got a number.");
    expect_refused(
        R"("service_tier":"cheap")", Kind::invalid_value, "service_tier",
        "'service_tier' must be one of 'auto', 'default', 'priority', 'scale', 'fast', 'flex', got 'cheap'.");
    expect_refused(R"("service_tier":5)", Kind::invalid_type, "service_tier");
}

TEST(ParseRequest, ReadsDeadlinesOverTheServersOwn) {
    domain::Deadlines const expected{1, 2, 86400000};
    EXPECT_EQ(
        chat(R"("queue_timeout_ms":1,"prefill_timeout_ms":2,"decode_timeout_ms":86400000)").generations[0].deadlines,
        expected);
    auto const body = R"({"prompt":"x","queue_timeout_ms":0,"decode_timeout_ms":7})";
    auto const parsed = parse_request(Surface::text, body, {{10, 20, 30}, "t"});
    auto const* call = std::get_if<Call>(&parsed);
    ASSERT_NE(call, nullptr);
    EXPECT_EQ(call->generations[0].deadlines, (domain::Deadlines{std::nullopt, 20, 7}));
    EXPECT_EQ(call->generations[0].tenant, "t");
    expect_refused(R"("queue_timeout_ms":86400001)", Kind::invalid_value, "queue_timeout_ms",
                   "'queue_timeout_ms' must be between 0 and 86400000, got 86400001.");
    expect_refused(R"("prefill_timeout_ms":-1)", Kind::invalid_value, "prefill_timeout_ms");
    expect_refused(R"("decode_timeout_ms":"1s")", Kind::invalid_type, "decode_timeout_ms");
}

TEST(ParseRequest, ReadsWhatToReuse) {
    auto const request = chat(R"("cache_prompt":false,"cache_salt":"s","speculate":false)").generations[0];
    EXPECT_FALSE(request.cache_prompt);
    EXPECT_EQ(request.cache_salt, "s");
    EXPECT_FALSE(request.speculate);
    expect_refused(R"("cache_salt":"")", Kind::invalid_value, "cache_salt",
                   "'cache_salt' must have 1 to 256 bytes, it has 0.");
    expect_refused("\"cache_salt\":\"" + std::string(257, 's') + "\"", Kind::invalid_value, "cache_salt",
                   "'cache_salt' must have 1 to 256 bytes, it has 257.");
}

TEST(ParseRequest, SettlesTheBillingLineOfSystemMessagesOnly) {
    auto const contents = [](std::string const& body) {
        auto const parsed = parse_request(Surface::chat, body);
        auto const* call = std::get_if<Call>(&parsed);
        std::string out;
        if (call == nullptr) return out;
        for (auto const& message : std::get<domain::ChatPrompt>(call->generations[0].prompt).messages)
            out += message.content + "|";
        return out;
    };
    EXPECT_EQ(contents(R"({"messages":[{"role":"system","content":"x-anthropic-billing-header: cch=ab12;S"},
                                       {"role":"user","content":"x-anthropic-billing-header: cch=ab12;U"}]})"),
              "x-anthropic-billing-header: cch=0000;S|x-anthropic-billing-header: cch=ab12;U|");
    EXPECT_EQ(contents(R"({"messages":[{"role":"developer","content":[
                             {"type":"text","text":"x-anthropic-billing-header: cch=ab12;"},
                             {"type":"text","text":"S"}]}]})"),
              "x-anthropic-billing-header: cch=0000;\nS|");
}

TEST(ParseRequest, LetsTheNewerNameOfALimitWin) {
    EXPECT_EQ(chat(R"("max_tokens":5)").generations[0].max_tokens, 5U);
    EXPECT_EQ(chat(R"("max_completion_tokens":7,"max_tokens":5)").generations[0].max_tokens, 7U);
    EXPECT_EQ(chat(R"("n_predict":3)").generations[0].max_tokens, 3U);
    EXPECT_EQ(chat(R"("max_tokens":-1)").generations[0].max_tokens, std::nullopt);
    EXPECT_EQ(chat("").generations[0].max_tokens, std::nullopt);
    EXPECT_EQ(text(R"("prompt":"x")").generations[0].max_tokens, 16U);
    EXPECT_EQ(text(R"("prompt":"x","max_tokens":-1)").generations[0].max_tokens, std::nullopt);
    expect_refused(R"("max_tokens":0)", Kind::invalid_value, "max_tokens",
                   "'max_tokens' must be between 1 and 16777216, got 0.");
    expect_refused(R"("max_completion_tokens":-2)", Kind::invalid_value, "max_completion_tokens");
}

TEST(ParseRequest, ReadsSeeds) {
    EXPECT_EQ(chat(R"("seed":0)").generations[0].sampling.seed, 0U);
    EXPECT_EQ(chat(R"("seed":-1)").generations[0].sampling.seed, std::nullopt);
    EXPECT_EQ(chat(R"("seed":-2)").generations[0].sampling.seed, std::numeric_limits<std::uint64_t>::max() - 1);
    EXPECT_EQ(chat(R"("seed":9223372036854775807)").generations[0].sampling.seed, std::uint64_t{9223372036854775807U});
    expect_refused(R"("seed":9223372036854775808)", Kind::invalid_value, "seed");
}

TEST(ParseRequest, ReadsStops) {
    EXPECT_EQ(chat(R"("stop":"END")").generations[0].stop, std::vector<std::string>{"END"});
    EXPECT_EQ(chat(R"("stop":["a","b","c","d","e"])").generations[0].stop.size(), 5U) << "more than OpenAI's four";
    EXPECT_EQ(chat(R"("stop":[])").generations[0].stop.size(), 0U);
    expect_refused(R"("stop":"")", Kind::invalid_value, "stop", "'stop' must not hold an empty string.");
    expect_refused(R"("stop":5)", Kind::invalid_type, "stop",
                   "'stop' must be a string or an array of strings, got an integer.");
    expect_refused(R"("stop":["a",5])", Kind::invalid_type, "stop[1]", "'stop[1]' must be a string, got an integer.");
    expect_refused(R"("stop":["a","a","a","a","a","a","a","a","a","a","a","a","a","a","a","a","a"])",
                   Kind::invalid_value, "stop", "'stop' has 17 strings, the limit is 16.");
    expect_refused("\"stop\":\"" + std::string(257, 'x') + "\"", Kind::invalid_value, "stop");
}

TEST(ParseRequest, ReadsLogitBiasInBothSpellings) {
    auto const listed = chat(R"("logit_bias":[[5,-1.5],[6,false]])").generations[0].sampling.logit_bias;
    ASSERT_EQ(listed.size(), 2U);
    EXPECT_EQ(listed[0], (domain::LogitBias{5, -1.5F}));
    EXPECT_EQ(listed[1], (domain::LogitBias{6, -std::numeric_limits<float>::infinity()}));
    expect_refused(R"("logit_bias":{"5":101})", Kind::invalid_value, "logit_bias",
                   "'logit_bias[\"5\"]' must be between -100 and 100, got 101.");
    expect_refused(R"("logit_bias":{"abc":1})", Kind::invalid_value, "logit_bias");
    expect_refused(R"("logit_bias":{"-5":1})", Kind::invalid_value, "logit_bias");
    expect_refused(R"("logit_bias":{"5":"1"})", Kind::invalid_type, "logit_bias[\"5\"]");
    expect_refused(R"("logit_bias":[[5]])", Kind::invalid_value, "logit_bias");
    expect_refused(R"("logit_bias":[["a",1]])", Kind::invalid_type, "logit_bias[0][0]");
    expect_refused(R"("logit_bias":"x")", Kind::invalid_type, "logit_bias");
    std::string many = "\"logit_bias\":{\"0\":0";
    for (int i = 1; i <= 1024; ++i) many += ",\"" + std::to_string(i) + "\":0";
    expect_refused(many + "}", Kind::invalid_value, "logit_bias", "'logit_bias' has 1025 entries, the limit is 1024.");
}

TEST(ParseRequest, ReadsLogprobsAsEachEndpointSpellsThem) {
    EXPECT_EQ(chat(R"("logprobs":true)").generations[0].top_logprobs, 0U);
    EXPECT_EQ(chat(R"("logprobs":true,"top_logprobs":5)").generations[0].top_logprobs, 5U);
    EXPECT_EQ(chat(R"("logprobs":false,"top_logprobs":0)").generations[0].top_logprobs, std::nullopt);
    EXPECT_EQ(text(R"("prompt":"x","logprobs":3)").generations[0].top_logprobs, 3U);
    expect_refused(R"("top_logprobs":5)", Kind::invalid_value, "top_logprobs",
                   "'top_logprobs' needs 'logprobs' to be true.");
    expect_refused(R"("logprobs":true,"top_logprobs":21)", Kind::invalid_value, "top_logprobs",
                   "'top_logprobs' must be between 0 and 20, got 21.");
    expect_refused(R"("logprobs":5)", Kind::invalid_type, "logprobs");
    EXPECT_EQ(refusal(Surface::text, R"({"prompt":"x","logprobs":true})").kind, Kind::invalid_type);
    EXPECT_EQ(refusal(Surface::text, R"({"prompt":"x","logprobs":21})").param, "logprobs");
}

TEST(ParseRequest, ReadsMessages) {
    auto const call = accept(Surface::chat, R"({"messages":[
        {"role":"developer","content":"be brief"},
        {"role":"system","content":[{"type":"text","text":"a"},{"type":"text","text":"b"}]},
        {"role":"user","content":"q","name":"bob"},{"role":"assistant","content":null,"tool_calls":[],"refusal":"no"},
        {"role":"assistant","content":[{"type":"refusal","refusal":"never"}]},
        {"role":"assistant"},{"role":"user","content":""}]})");
    auto const& prompt = std::get<domain::ChatPrompt>(call.generations[0].prompt);
    std::vector<domain::Message> const expected{
        {"system", "be brief"}, {"system", "a\nb"}, {"user", "q"}, {"assistant", "no"},
        {"assistant", "never"}, {"assistant", ""},  {"user", ""}};
    EXPECT_EQ(prompt.messages, expected);
}

TEST(ParseRequest, RefusesMessagesItCannotRender) {
    EXPECT_EQ(refusal(Surface::chat, "{}").kind, Kind::missing_required_parameter);
    EXPECT_EQ(refusal(Surface::chat, "{}").message, "'messages' is required.");
    expect_messages_refused("[]", Kind::invalid_value, "messages");
    expect_messages_refused("\"hi\"", Kind::invalid_type, "messages");
    expect_messages_refused("[\"hi\"]", Kind::invalid_type, "messages[0]");
    expect_messages_refused(R"([{"content":"x"}])", Kind::missing_required_parameter, "messages[0].role");
    expect_messages_refused(R"([{"role":5,"content":"x"}])", Kind::invalid_type, "messages[0].role");
    expect_messages_refused(R"([{"role":"boss","content":"x"}])", Kind::invalid_value, "messages[0].role");
    expect_messages_refused(R"([{"role":"tool","content":"x","tool_call_id":"1"}])", Kind::unsupported_value,
                            "messages[0].role");
    expect_messages_refused(R"([{"role":"function","content":"x"}])", Kind::unsupported_value, "messages[0].role");
    expect_messages_refused(R"([{"role":"user"}])", Kind::missing_required_parameter, "messages[0].content");
    expect_messages_refused(R"([{"role":"user","content":null}])", Kind::missing_required_parameter,
                            "messages[0].content");
    expect_messages_refused(R"([{"role":"user","content":5}])", Kind::invalid_type, "messages[0].content");
    expect_messages_refused(R"([{"role":"user","content":[5]}])", Kind::invalid_type, "messages[0].content[0]");
    expect_messages_refused(R"([{"role":"user","content":[{"text":"x"}]}])", Kind::missing_required_parameter,
                            "messages[0].content[0].type");
    expect_messages_refused(R"([{"role":"user","content":[{"type":"text"}]}])", Kind::missing_required_parameter,
                            "messages[0].content[0].text");
    expect_messages_refused(R"([{"role":"user","content":[{"type":"text","text":1}]}])", Kind::invalid_type,
                            "messages[0].content[0].text");
    expect_messages_refused(R"([{"role":"user","content":[{"type":"image_url","image_url":{"url":"data:"}}]}])",
                            Kind::unsupported_content, "messages[0].content[0].type");
    expect_messages_refused(R"([{"role":"user","content":[{"type":"refusal","refusal":"x"}]}])",
                            Kind::unsupported_content, "messages[0].content[0].type");
    expect_messages_refused(R"([{"role":"user","content":"a"},{"role":"assistant","tool_calls":[{"id":"1"}]}])",
                            Kind::unsupported_parameter, "messages[1].tool_calls");
    expect_messages_refused(R"([{"role":"assistant","content":"a","audio":{"id":"1"}}])", Kind::unsupported_parameter,
                            "messages[0].audio");
    expect_messages_refused(R"([{"role":"user","content":"a","name":7}])", Kind::invalid_type, "messages[0].name");
}

TEST(ParseRequest, BoundsTheNumberOfMessagesAndParts) {
    std::string messages = "[";
    for (int i = 0; i <= 4096; ++i) messages += std::string(i > 0 ? "," : "") + R"({"role":"user","content":"x"})";
    auto const problem = refusal(Surface::chat, "{\"messages\":" + messages + "]}");
    EXPECT_EQ(problem.message, "'messages' has 4097 messages, the limit is 4096.");

    std::string parts = "[";
    for (std::size_t i = 0; i <= kPartsMax; ++i)
        parts += std::string(i > 0 ? "," : "") + R"({"type":"text","text":"x"})";
    auto const too_many = refusal(Surface::chat, R"({"messages":[{"role":"user","content":)" + parts + "]}]}");
    EXPECT_EQ(too_many.message, "'messages[0].content' has 1025 parts, the limit is 1024.");
}

TEST(ParseRequest, ReadsEveryShapeOfPrompt) {
    EXPECT_EQ(text(R"("prompt":"x")").generations[0].prompt, domain::Prompt(domain::TextPrompt{"x"}));
    EXPECT_EQ(text(R"("prompt":[1,2])").generations[0].prompt, domain::Prompt(domain::TokenPrompt{{1, 2}}));
    auto const two = text(R"("prompt":["x","y"],"n":2)");
    ASSERT_EQ(two.generations.size(), 2U);
    EXPECT_EQ(two.generations[1].prompt, domain::Prompt(domain::TextPrompt{"y"}));
    EXPECT_EQ(two.choices, 2U);
    EXPECT_EQ(text(R"("prompt":[[1],[2,3]])").generations.size(), 2U);
    auto const refused = [](std::string_view prompt) {
        return refusal(Surface::text, "{\"prompt\":" + std::string(prompt) + "}");
    };
    EXPECT_EQ(refusal(Surface::text, "{}").message, "'prompt' is required.");
    EXPECT_EQ(refused("[]").kind, Kind::invalid_value);
    EXPECT_EQ(refused("[[]]").kind, Kind::invalid_value);
    EXPECT_EQ(refused("[1,\"x\"]").param, "prompt[1]");
    EXPECT_EQ(refused("[\"x\",1]").param, "prompt[1]");
    EXPECT_EQ(refused("[-1]").message, "'prompt[0]' must be between 0 and 2147483647, got -1.");
    EXPECT_EQ(refused("5").kind, Kind::invalid_type);
    EXPECT_EQ(refused("{}").kind, Kind::invalid_type);
}

TEST(ParseRequest, BoundsPromptsTimesChoices) {
    auto const prompts = [](int count) {
        std::string list = "\"prompt\":[\"x\"";
        for (int i = 1; i < count; ++i) list += ",\"x\"";
        return list + "]";
    };
    EXPECT_EQ(text(prompts(64)).generations.size(), 64U);
    EXPECT_EQ(text(prompts(8) + ",\"n\":16").generations.size(), 8U);
    EXPECT_EQ(refusal(Surface::text, "{" + prompts(65) + "}").message, "'prompt' has 65 prompts, the limit is 64.");
    EXPECT_EQ(refusal(Surface::text, "{" + prompts(9) + ",\"n\":16}").message,
              "'n' times the number of prompts is 144, the limit is 128.");
}

TEST(ParseRequest, HandlesBestOfAndEcho) {
    EXPECT_EQ(text(R"("prompt":"x","n":2,"best_of":2)").choices, 2U);
    EXPECT_EQ(refusal(Surface::text, R"({"prompt":"x","n":2,"best_of":1})").message,
              "'best_of' must be at least 'n' (2), got 1.");
    EXPECT_EQ(refusal(Surface::text, R"({"prompt":"x","best_of":2})").kind, Kind::unsupported_parameter);
    EXPECT_EQ(text(R"("prompt":["a","b"],"echo":true)").echoes, (std::vector<std::string>{"a", "b"}));
    EXPECT_EQ(text(R"("prompt":"a","echo":false)").echoes.size(), 0U);
    EXPECT_EQ(refusal(Surface::text, R"({"prompt":"x","echo":true,"logprobs":1})").param, "echo");
    EXPECT_EQ(refusal(Surface::text, R"({"prompt":[1],"echo":true})").param, "echo");
    expect_refused(R"("echo":true)", Kind::unsupported_parameter, "echo");
}

TEST(ParseRequest, ReadsStreamOptionsAndPings) {
    auto const call = chat(
        R"("stream":true,"stream_options":{"include_usage":true,"include_obfuscation":false},
        "return_progress":true,"sse_ping_interval":3)");
    EXPECT_TRUE(call.stream);
    EXPECT_TRUE(call.include_usage);
    EXPECT_TRUE(call.generations[0].return_prompt_progress);
    EXPECT_EQ(call.ping_interval, Duration(std::chrono::seconds(3)));
    EXPECT_EQ(chat(R"("sse_ping_interval":-1)").ping_interval, Duration::max());
    EXPECT_FALSE(chat(R"("return_progress":true)").generations[0].return_prompt_progress)
        << "nothing to report without a stream";
    expect_refused(R"("sse_ping_interval":0)", Kind::invalid_value, "sse_ping_interval");
}

TEST(ParseRequest, ToleratesAndNamesUnknownFields) {
    auto const call = chat(R"("frobnicate":1,"zap":{"a":[]})");
    EXPECT_EQ(call.unknown_fields, "frobnicate,zap");
    EXPECT_EQ(chat(R"("prompt":"x")").unknown_fields, "prompt") << "known to the other endpoint only";
}

TEST(ParseRequest, RefusesBodiesThatAreNoObject) {
    for (std::string_view const body : {"", "  \n", "[]", "5", "null", "\"x\"", "{", "{]", "nonsense"}) {
        auto const problem = refusal(Surface::chat, std::string(body));
        EXPECT_EQ(problem.kind, Kind::invalid_json) << body;
        EXPECT_FALSE(problem.message.empty());
    }
    EXPECT_EQ(refusal(Surface::chat, "[]").message, "The body must be a JSON object, got an array.");
}

TEST(Fields, AreListedOncePerEndpoint) {
    std::set<std::pair<std::string_view, int>> seen;
    for (auto const& field : fields())
        for (auto const surface : {Surface::chat, Surface::text})
            if ((static_cast<int>(field.surface) & static_cast<int>(surface)) != 0)
                EXPECT_TRUE(seen.emplace(field.name, static_cast<int>(surface)).second) << field.name;
}

// --- embeddings ---

domain::EmbedPrompt inputs(Call const& call, std::size_t generation = 0) {
    return std::get<domain::EmbedPrompt>(call.generations.at(generation).prompt);
}

TEST(ParseEmbeddings, TakesEveryFormOfInput) {
    using Input = domain::EmbedPrompt::Input;
    auto const of = [](std::string const& json) {
        return inputs(accept(Surface::embed, "{\"input\":" + json + "}")).inputs;
    };
    std::vector<domain::Token> const tokens{1, 2};
    EXPECT_EQ(of(R"("a")"), (std::vector<Input>{std::string("a")}));
    EXPECT_EQ(of(R"(["a","b"])"), (std::vector<Input>{std::string("a"), std::string("b")}));
    EXPECT_EQ(of("[1,2]"), (std::vector<Input>{tokens}));
    EXPECT_EQ(of("[[1,2],[1,2]]"), (std::vector<Input>{tokens, tokens}));
    EXPECT_EQ(of(R"(["a",[1,2]])"), (std::vector<Input>{std::string("a"), tokens}));
}

TEST(ParseEmbeddings, RefusesWhatIsNoInput) {
    for (std::string_view const bad :
         {"\"\"", "[]", "[\"\"]", "[[]]", "[1,\"a\"]", "[1,[2]]", "[-1]", "[1.5]", "true", "{}", "[[\"a\"]]"}) {
        auto const problem = refusal(Surface::embed, "{\"input\":" + std::string(bad) + "}");
        EXPECT_TRUE(problem.param.starts_with("input")) << bad << ": " << problem.message;
    }
    EXPECT_EQ(refusal(Surface::embed, "{}").kind, Kind::missing_required_parameter);
}

TEST(ParseEmbeddings, SplitsManyInputsIntoRequests) {
    std::string body = "{\"input\":[";
    for (int i = 0; i < 150; ++i) body += (i > 0 ? ",\"" : "\"") + std::to_string(i) + "\"";
    auto const call = accept(Surface::embed, body + "],\"truncate\":true,\"priority\":\"batch\"}");
    ASSERT_EQ(call.generations.size(), 3U);
    EXPECT_EQ(inputs(call, 0).inputs.size(), 64U);
    EXPECT_EQ(inputs(call, 1).inputs.front(), domain::EmbedPrompt::Input(std::string("64")));
    EXPECT_EQ(inputs(call, 2).inputs.size(), 22U);
    for (std::size_t i = 0; i < 3; ++i) {
        EXPECT_TRUE(inputs(call, i).truncate);
        EXPECT_EQ(call.generations[i].priority, domain::Priority::batch);
    }
}

TEST(ParseEmbeddings, SplitsInputsThatAreLargeTogether) {
    std::string const large(9U << 20, 'x');
    auto const call = accept(Surface::embed, "{\"input\":[\"" + large + "\",\"" + large + "\",\"y\"]}");
    ASSERT_EQ(call.generations.size(), 2U);
    EXPECT_EQ(inputs(call, 0).inputs.size(), 1U);
    EXPECT_EQ(inputs(call, 1).inputs.size(), 2U);
}

}  // namespace
}  // namespace hearth::api::openai
