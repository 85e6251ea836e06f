#include "modelfile/modelfile.h"

#include <algorithm>
#include <array>
#include <utility>

#include <fmt/format.h>

#include "base/ascii.h"
#include "base/utf8.h"

namespace hearth::modelfile {
namespace {

constexpr std::string_view kBlanks = " \t\r";
constexpr std::string_view kThreeMarks = "\"\"\"";
constexpr std::string_view kByteOrderMark = "\xEF\xBB\xBF";
constexpr std::size_t kWordShown = 32;

std::string_view trim_begin(std::string_view text) {
    return text.substr(std::min(text.find_first_not_of(kBlanks), text.size()));
}

std::string_view trim_end(std::string_view text) { return text.substr(0, text.find_last_not_of(kBlanks) + 1); }

std::string_view trim(std::string_view text) { return trim_end(trim_begin(text)); }

// Cuts the first word off.
std::string_view take_word(std::string_view& text) {
    auto const end = std::min(text.find_first_of(kBlanks), text.size());
    auto const word = text.substr(0, end);
    text = trim_begin(text.substr(end));
    return word;
}

class Parser {
public:
    explicit Parser(std::string_view text) : rest_(text) {}

    Result<Modelfile> run() && {
        while (!rest_.empty()) {
            auto line = trim_begin(take_line());
            if (line.empty() || line.front() == '#') continue;
            auto const began = line_;
            auto const done = command(line);
            if (!done) return Error(done.error().code, fmt::format("line {}: {}", began, done.error().message));
        }
        if (out_.from.empty()) return Error(Code::invalid_argument, "no FROM line");
        // Types and names; the JSON itself is of no use here.
        if (auto const checked = to_options(out_.parameters); !checked) return checked.error();
        return std::move(out_);
    }

private:
    std::string_view take_line() {
        auto const end = std::min(rest_.find('\n'), rest_.size());
        auto const line = rest_.substr(0, end);
        rest_.remove_prefix(std::min(end + 1, rest_.size()));
        ++line_;
        return line;
    }

    // A value that begins with `text` on this line; quoted ones go on over the next.
    Result<std::string> value(std::string_view text) {
        if (!text.starts_with('"')) return std::string(trim(text));
        auto const mark = kThreeMarks.substr(0, text.starts_with(kThreeMarks) ? kThreeMarks.size() : 1);
        text.remove_prefix(mark.size());
        std::string out;
        for (;;) {
            if (auto const ended = trim_end(text); ended.ends_with(mark)) {
                out += ended.substr(0, ended.size() - mark.size());
                return out;
            }
            if (rest_.empty())
                return Error(Code::invalid_argument, fmt::format("a text opened by {} has no end", mark));
            out += text;
            out += '\n';
            text = take_line();
        }
    }

    Status command(std::string_view line) {
        auto const word = ascii_lower(take_word(line));
        if (word == "from") return set_from(line);
        if (word == "parameter") return add_parameter(line);
        if (word == "message") return add_message(line);
        std::string* const single = word == "template"   ? &out_.template_text
                                    : word == "system"   ? &out_.system
                                    : word == "requires" ? &out_.needs
                                                         : nullptr;
        if (single != nullptr) {
            HEARTH_TRY(*single, value(line));
            return ok();
        }
        if (word == "license") return append(out_.licenses, kLicensesMax, "LICENSE", line);
        if (word == "adapter") return append(out_.adapters, kAdaptersMax, "ADAPTER", line);
        return Error(Code::invalid_argument,
                     fmt::format("command must be one of \"from\", \"license\", \"template\", \"system\", \"adapter\", "
                                 "\"parameter\", \"message\", or \"requires\", got \"{}\"",
                                 std::string_view(word).substr(0, kWordShown)));
    }

    Status set_from(std::string_view line) {
        HEARTH_TRY(auto from, value(line));
        if (from.empty()) return Error(Code::invalid_argument, "FROM names nothing");
        if (!out_.from.empty())
            return Error(Code::unsupported, "a second FROM: a model of several files is not supported");
        out_.from = std::move(from);
        return ok();
    }

    Status add_parameter(std::string_view line) {
        auto name = ascii_lower(take_word(line));
        HEARTH_TRY(auto text, value(line));
        if (name.empty() || text.empty()) return Error(Code::invalid_argument, "PARAMETER needs a name and a value");
        if (out_.parameters.size() == kParametersMax)
            return Error(Code::invalid_argument, fmt::format("more than {} parameters", kParametersMax));
        out_.parameters.push_back({std::move(name), std::move(text)});
        return ok();
    }

    Status add_message(std::string_view line) {
        auto role = ascii_lower(take_word(line));
        constexpr std::array<std::string_view, 3> kRoles{"system", "user", "assistant"};
        if (std::ranges::find(kRoles, role) == kRoles.end())
            return Error(Code::invalid_argument, "message role must be one of \"system\", \"user\", or \"assistant\"");
        HEARTH_TRY(auto text, value(line));
        if (out_.messages.size() == kMessagesMax)
            return Error(Code::invalid_argument, fmt::format("more than {} messages", kMessagesMax));
        out_.messages.push_back({std::move(role), std::move(text)});
        return ok();
    }

    Status append(std::vector<std::string>& list, std::size_t size_max, std::string_view what, std::string_view line) {
        HEARTH_TRY(auto text, value(line));
        if (list.size() == size_max)
            return Error(Code::invalid_argument, fmt::format("more than {} lines of {}", size_max, what));
        list.push_back(std::move(text));
        return ok();
    }

    std::string_view rest_;
    std::size_t line_ = 0;
    Modelfile out_;
};

// A line of it that is not its last would end it, if it stood between marks.
bool ends_early(std::string_view text) {
    for (auto at = text.find('\n'); at != std::string_view::npos; at = text.find('\n')) {
        if (trim_end(text.substr(0, at)).ends_with(kThreeMarks)) return true;
        text.remove_prefix(at + 1);
    }
    return false;
}

// A value as it reads back: bare where that is the same, else between marks.
Result<std::string> quoted(std::string_view text) {
    bool const one_line = text.find('\n') == std::string_view::npos;
    if (!text.empty() && one_line && trim(text) == text && text.front() != '"') return std::string(text);
    if (ends_early(text))
        return Error(Code::invalid_argument,
                     "a text with a line that ends with three quotation marks cannot be part "
                     "of a Modelfile");
    return fmt::format("{0}{1}{0}", kThreeMarks, text);
}

}  // namespace

Result<Modelfile> parse_modelfile(std::string_view text) {
    if (text.size() > kBytesMax)
        return Error(Code::invalid_argument,
                     fmt::format("a Modelfile of {} bytes, the limit is {}", text.size(), kBytesMax));
    if (!is_valid_utf8(text)) return Error(Code::invalid_argument, "a Modelfile must be UTF-8");
    if (text.starts_with(kByteOrderMark)) text.remove_prefix(kByteOrderMark.size());
    return Parser(text).run();
}

Result<std::string> write_modelfile(Modelfile const& modelfile) {
    std::string out;
    auto const line = [&out](std::string_view word, std::string_view text) -> Status {
        HEARTH_TRY(auto const value, quoted(text));
        out += fmt::format("{} {}\n", word, value);
        return ok();
    };
    HEARTH_CHECK(line("FROM", modelfile.from));
    for (auto const& adapter : modelfile.adapters) HEARTH_CHECK(line("ADAPTER", adapter));
    if (!modelfile.template_text.empty()) HEARTH_CHECK(line("TEMPLATE", modelfile.template_text));
    if (!modelfile.system.empty()) HEARTH_CHECK(line("SYSTEM", modelfile.system));
    for (auto const& [name, value] : modelfile.parameters) HEARTH_CHECK(line(fmt::format("PARAMETER {}", name), value));
    for (auto const& [role, content] : modelfile.messages) HEARTH_CHECK(line(fmt::format("MESSAGE {}", role), content));
    if (!modelfile.needs.empty()) HEARTH_CHECK(line("REQUIRES", modelfile.needs));
    for (auto const& license : modelfile.licenses) HEARTH_CHECK(line("LICENSE", license));
    return out;
}

}  // namespace hearth::modelfile
