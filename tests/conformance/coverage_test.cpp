// The suite is complete only while it plays every field and every error: a new
// line in either table fails here until it has a case.
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include <gtest/gtest.h>

#include "api/errors.h"
#include "api/ollama/fields.h"
#include "api/openai/fields.h"
#include "case_file.h"

namespace hearth::conformance {
namespace {

struct Texts {
    std::string requests;
    std::string answers;
};

Texts read_cases(std::vector<char const*> const& folders) {
    Texts texts;
    for (auto const* folder : folders) {
        for (auto const& entry : std::filesystem::directory_iterator(folder)) {
            for (auto const& exchange : CaseFile::read(entry.path()).exchanges) {
                texts.requests += exchange.body;
                for (auto const& step : exchange.steps) texts.requests += step.rest;
                texts.answers += exchange.expected.body;
            }
        }
    }
    return texts;
}

bool holds(std::string const& text, std::string const& what) { return text.find(what) != std::string::npos; }

TEST(Coverage, EveryFieldIsSentAndEveryRefusalIsSeen) {
    auto const texts = read_cases({HEARTH_CASES "/native", HEARTH_CASES "/openai"});
    for (auto const& field : api::openai::fields()) {
        std::string const name(field.name);
        EXPECT_TRUE(holds(texts.requests, '"' + name + "\": ")) << "no case sends " << name;
        if (field.action != api::openai::Action::refused) continue;
        bool const refused = holds(texts.answers, "\"param\": \"" + name + '"') ||
                             holds(texts.answers, "\"param\": \"" + name + '.') ||
                             holds(texts.answers, "\"param\": \"" + name + '[');
        EXPECT_TRUE(refused) << "no case is refused for " << name;
    }
}

TEST(Coverage, EveryFieldOfOllamasDialectIsSent) {
    auto const texts = read_cases({HEARTH_CASES "/ollama"});
    for (auto const table : {api::ollama::fields(), api::ollama::options()})
        for (auto const& field : table)
            EXPECT_TRUE(holds(texts.requests, '"' + std::string(field.name) + "\": "))
                << "no case sends " << field.name;
}

// Ollama's dialect has no codes. What is answered there alone, since a pull of the native API is a job, is known by
// its words.
TEST(Coverage, EveryErrorIsAnswered) {
    auto const texts = read_cases({HEARTH_CASES "/native", HEARTH_CASES "/openai"});
    auto const ollama = read_cases({HEARTH_CASES "/ollama"});
    for (auto const& row : api::catalogue()) {
        bool const answered = row.code == "source_refused"
                                  ? holds(ollama.answers, "the hub answers 401")
                                  : holds(texts.answers, "\"code\": \"" + std::string(row.code) + '"');
        EXPECT_TRUE(answered) << row.code;
    }
}

}  // namespace
}  // namespace hearth::conformance
