// What the Jinja templates of modelfile/known_templates.json render, against what the
// Go templates they stand for render, written down from Go's own text/template.
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <map>

#include <gtest/gtest.h>

#include "json/json.h"
#include "llama/chat_template.h"

namespace hearth::llama {
namespace {

// Of a system prompt, a question, its answer and another question.
std::map<std::string, std::string> const kRendered{
    {"alfred",
     "<start_system>S<end_message><start_user>U1<end_message><start_assistant>A1<end_message><start_user>U2"
     "<end_message><start_assistant>"},
    {"alpaca", "S\n\n### Instruction:\nU1\n\n### Response:\nA1\n\n### Instruction:\nU2\n\n### Response:\n"},
    {"chatml",
     "<|im_start|>system\nS<|im_end|>\n<|im_start|>user\nU1<|im_end|>\n<|im_start|>assistant\nA1<|im_end|>\n"
     "<|im_start|>user\nU2<|im_end|>\n<|im_start|>assistant\n"},
    {"codellama", "[INST] <<SYS>>S<</SYS>>\n\nU1 [/INST]\nA1[INST] <<SYS>><</SYS>>\n\nU2 [/INST]\n"},
    {"codellama-70b-instruct",
     "Source: system\n\n S <step> Source: user\n\n U1 <step> Source: assistant\n\n A1 <step> Source: user\n\n U2 "
     "<step> "
     "Source: assistant\nDestination: user\n\n "},
    {"command-r",
     "<|START_OF_TURN_TOKEN|><|SYSTEM_TOKEN|>S<|END_OF_TURN_TOKEN|><|START_OF_TURN_TOKEN|><|USER_TOKEN|>U1"
     "<|END_OF_TURN_TOKEN|><|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>A1<|END_OF_TURN_TOKEN|><|START_OF_TURN_TOKEN|>"
     "<|USER_TOKEN|>U2<|END_OF_TURN_TOKEN|><|END_OF_TURN_TOKEN|><|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>"},
    {"falcon-instruct", "System: S\nUser:\nU1\nFalcon:\nA1\nUser:\nU2\nFalcon:\n"},
    {"gemma-instruct",
     "<start_of_turn>user\nS\nU1<end_of_turn>\n<start_of_turn>model\nA1<end_of_turn>\n<start_of_turn>user\nU2"
     "<end_of_turn>\n<start_of_turn>model\n"},
    {"gemma3",
     "<start_of_turn>user\nS<end_of_turn>\n<start_of_turn>user\nU1<end_of_turn>\n<start_of_turn>model\nA1<end_of_turn>"
     "\n"
     "<start_of_turn>user\nU2<end_of_turn>\n<start_of_turn>model\n"},
    {"gemma3-instruct",
     "<start_of_turn>user\nS\n\nU1<end_of_turn>\n<start_of_turn>model\nA1<end_of_turn>\n<start_of_turn>user\nU2"
     "<end_of_turn>\n<start_of_turn>model\n"},
    {"granite-instruct", "System:\nS\n\nQuestion:\nU1\n\nAnswer:\nA1\n\nQuestion:\nU2\n\nAnswer:\n"},
    {"llama2-chat", "[INST] <<SYS>>\nS\n<</SYS>>\n\nU1 [/INST] A1</s><s>[INST] <<SYS>><</SYS>>\n\nU2 [/INST]"},
    {"llama3-instruct",
     "<|start_header_id|>system<|end_header_id|>\n\nS<|eot_id|><|start_header_id|>user<|end_header_id|>\n\nU1"
     "<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\nA1<|eot_id|><|start_header_id|>user"
     "<|end_header_id|>\n\nU2<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n"},
    {"magicoder", "S\n\n@@ Instruction\nU1\n\n@@ Response\nA1\n\n@@ Instruction\nU2\n\n@@ Response\n"},
    {"mistral-instruct", "[INST] S\n\nU1[/INST] A1</s>[INST] U2[/INST]"},
    {"openchat",
     "GPT4 Correct System: S<|end_of_turn|>GPT4 Correct User: U1<|end_of_turn|>GPT4 Correct Assistant: A1"
     "<|end_of_turn|>GPT4 Correct User: U2<|end_of_turn|>GPT4 Correct Assistant:"},
    {"phi-3",
     "<|system|>\nS<|end|>\n<|user|>\nU1<|end|>\n<|assistant|>\nA1<|end|>\n<|user|>\nU2<|end|>\n<|assistant|>\n"},
    {"prompt", "U1A1U2"},
    {"solar-instruct",
     "### System:\nS\n\n### User:\nU1\n\n### Assistant:\nA1</s>\n\n### User:\nU2\n\n### Assistant:\n"},
    {"vicuna", "S\n\nUSER: U1\nASSISTANT: A1</s>\nUSER: U2\nASSISTANT:"},
    {"zephyr", "<|system|>\nS</s>\n<|user|>\nU1</s>\n<|assistant|>\nA1</s>\n<|user|>\nU2</s>\n<|assistant|>\n"},
};

TEST(KnownTemplates, RenderWhatGoRenders) {
    std::ifstream file(std::string(std::getenv("HEARTH_SOURCE_DIR")) + "/src/modelfile/known_templates.json");
    std::string text{std::istreambuf_iterator<char>(file), {}};
    auto const list = json::Document::parse(std::move(text), {}, "known templates");
    ASSERT_TRUE(list) << list.error().message;
    EXPECT_EQ(list->root().size(), kRendered.size());
    for (auto const entry : list->root().elements()) {
        std::string const name(*entry.find("name")->text());
        auto const expected = kRendered.find(name);
        ASSERT_NE(expected, kRendered.end()) << name;
        auto const chat = ChatTemplate::create(std::string(*entry.find("jinja")->text()), "<s>", "</s>");
        ASSERT_TRUE(chat) << name << ": " << chat.error().message;
        auto const rendered =
            chat->render({{{"system", "S"}, {"user", "U1"}, {"assistant", "A1"}, {"user", "U2"}}, true});
        ASSERT_TRUE(rendered) << name << ": " << rendered.error().message;
        EXPECT_EQ(rendered->text, expected->second) << name;
        std::string plain;
        for (auto const& span : rendered->plain) plain += rendered->text.substr(span.begin, span.end - span.begin);
        EXPECT_EQ(plain, name == "prompt" ? "U1A1U2" : "SU1A1U2")
            << name << ": what messages said is never control text";
    }
}

}  // namespace
}  // namespace hearth::llama
