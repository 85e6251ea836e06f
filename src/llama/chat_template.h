// ChatTemplate: the Jinja template of a model file, parsed once, rendered often.
//
// Rendering keeps track of where each byte of the result came from, so that text
// of a message is never mistaken for the template's control tokens. The role is
// the template's when it is one of the known ones.
//
// The template is as trustworthy as the file it comes in: its size and nesting
// are bounded before it is parsed, and while it runs its loops and its macro
// recursion are (template_guard.h), and then its result. Upstream's engine does the work; this is the
// only file of ours that includes it.
//
// Threads: render() from any thread. Private to the module.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "domain/generate.h"
#include "llama/vocabulary.h"

namespace hearth::llama {

inline constexpr std::uint32_t kTemplateNestingMax = 128;         // blocks, brackets, macro calls
inline constexpr std::uint32_t kTemplateExpressionMax = 1024;     // tokens of one {{ }} or {% %}
inline constexpr std::uint64_t kTemplateIterationsMax = 1U << 16;  // loop bodies and macro calls of one rendering
inline constexpr std::size_t kRenderedSlackBytes = 1U << 20;      // result: four times the messages and this

struct RenderedText {
    std::string text;
    std::vector<TextSpan> plain;  // what came from messages, sorted
};

class ChatTemplate {
public:
    // Fails with `unsupported`, saying why, for a template that cannot be parsed.
    [[nodiscard]] static Result<ChatTemplate> create(std::string source, std::string bos_text, std::string eos_text);

    ~ChatTemplate();
    ChatTemplate(ChatTemplate&&) noexcept;
    ChatTemplate& operator=(ChatTemplate&&) noexcept;

    // Fails with `invalid_argument` when the template rejects the messages,
    // `too_large` when the result passes its bound.
    [[nodiscard]] Result<RenderedText> render(domain::ChatPrompt const& prompt) const;

    // Strings at which a turn ends, for the few templates whose models may spell
    // out their end token instead of emitting it.
    [[nodiscard]] std::vector<std::string> const& additional_stops() const { return additional_stops_; }

private:
    struct Program;  // the parsed template, in upstream's types
    ChatTemplate();

    std::unique_ptr<Program> program_;
    std::vector<std::string> additional_stops_;
};

}  // namespace hearth::llama
