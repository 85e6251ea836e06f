#include "convert/probe_text.h"

#include <algorithm>
#include <array>

#include "base/utf8.h"

namespace hearth::convert {
namespace {

constexpr std::string_view kProbe =
    "\n \n\n \n\n\n \t \t\t \t\n  \n   \n    \n     \n🚀 (normal) 😶\342\200\215🌫\357\270\217 (multiple emojis "
    "concatenated) "
    "✅ 🦙🦙 3 33 333 3333 33333 333333 3333333 33333333 3.3 3..3 3...3 កាន់តែពិសេសអាច😁 "
    "?我想在apple工作1314151天～ ------======= нещо на Български ''''''```````\"\"\"\"......!!!!!!?????? "
    "I've been 'told he's there, 'RE you sure? 'M not sure I'll make it, 'D "
    "you like some tea? We'Ve a'lL";

struct Character {
    char32_t point;
    std::string_view category;
};
// What the text has beyond ASCII, in order.
constexpr std::array<Character, 40> kBeyondAscii{
    {{0x0411, "Lu"},  {0x0430, "Ll"},  {0x0433, "Ll"},  {0x0435, "Ll"},  {0x0438, "Ll"}, {0x043a, "Ll"}, {0x043b, "Ll"},
     {0x043d, "Ll"},  {0x043e, "Ll"},  {0x0440, "Ll"},  {0x0441, "Ll"},  {0x0449, "Ll"}, {0x044a, "Ll"}, {0x1780, "Lo"},
     {0x1785, "Lo"},  {0x178f, "Lo"},  {0x1793, "Lo"},  {0x1796, "Lo"},  {0x179f, "Lo"}, {0x17a2, "Lo"}, {0x17b6, "Mc"},
     {0x17b7, "Mn"},  {0x17c1, "Mc"},  {0x17c2, "Mc"},  {0x17cb, "Mn"},  {0x200d, "Cf"}, {0x2705, "So"}, {0x4f5c, "Lo"},
     {0x5728, "Lo"},  {0x5929, "Lo"},  {0x5de5, "Lo"},  {0x60f3, "Lo"},  {0x6211, "Lo"}, {0xfe0f, "Mn"}, {0xff5e, "Sm"},
     {0x1f32b, "So"}, {0x1f601, "So"}, {0x1f636, "So"}, {0x1f680, "So"}, {0x1f999, "So"}}};

constexpr std::array<std::string_view, 28> kCategories{"L", "Lu", "Ll", "Lt", "Lm", "Lo", "M",  "Mn", "Mc", "Me",
                                                       "N", "Nd", "Nl", "No", "P",  "S",  "Sm", "So", "Sc", "Sk",
                                                       "Z", "Zs", "C",  "Cf", "s",  "d",  "w",  "Han"};

std::string_view ascii_category(char32_t c) {
    if (c < 0x20 || c == 0x7f) return "Cc";
    if (c == ' ') return "Zs";
    if (c >= '0' && c <= '9') return "Nd";
    if (c >= 'A' && c <= 'Z') return "Lu";
    if (c >= 'a' && c <= 'z') return "Ll";
    if (c == '$') return "Sc";
    if (c == '^' || c == '`') return "Sk";
    constexpr std::u32string_view kMath = U"+<=>|~";
    return kMath.find(c) == std::u32string_view::npos ? "P" : "Sm";
}

std::string_view category_of(char32_t c) {
    if (c < 0x80) return ascii_category(c);
    auto const* const found = std::lower_bound(kBeyondAscii.begin(), kBeyondAscii.end(), c,
                                               [](Character const& a, char32_t b) { return a.point < b; });
    return found != kBeyondAscii.end() && found->point == c ? found->category : "Cn";
}

}  // namespace

std::string_view probe_text() { return kProbe; }

std::u32string code_points(std::string_view text) {
    std::u32string points;
    while (!text.empty()) {
        auto const length = utf8_sequence(text).length;
        constexpr std::array<unsigned char, 5> kFirstBits{0, 0x7f, 0x1f, 0x0f, 0x07};
        auto point = static_cast<char32_t>(static_cast<unsigned char>(text[0]) & kFirstBits[length]);
        for (std::size_t i = 1; i < length; ++i) point = (point << 6) | (static_cast<unsigned char>(text[i]) & 0x3f);
        points += point;
        text.remove_prefix(length);
    }
    return points;
}

std::string utf8_of(std::u32string_view text) {
    std::string out;
    for (auto const c : text) {
        if (c < 0x80) {
            out += static_cast<char>(c);
            continue;
        }
        int const more = c < 0x800 ? 1 : c < 0x10000 ? 2 : 3;
        constexpr std::array<unsigned char, 4> kMarks{0, 0xc0, 0xe0, 0xf0};
        out += static_cast<char>(kMarks[static_cast<std::size_t>(more)] | (c >> (6 * more)));
        for (int i = more - 1; i >= 0; --i) out += static_cast<char>(0x80 | ((c >> (6 * i)) & 0x3f));
    }
    return out;
}

bool is_category(std::string_view name) {
    return std::find(kCategories.begin(), kCategories.end(), name) != kCategories.end();
}

bool in_category(char32_t c, std::string_view name) {
    auto const category = category_of(c);
    if (name == "s") return c == ' ' || (c >= '\t' && c <= '\r');
    if (name == "d") return category == "Nd";
    if (name == "w") return category[0] == 'L' || category[0] == 'M' || category == "Nd" || c == '_';
    if (name == "Han") return c >= 0x4e00 && c <= 0x9fff;
    return category.starts_with(name);
}

}  // namespace hearth::convert
