#include "llama/template_guard.h"

#include <fmt/format.h>

#include <stdexcept>
#include <string>
#include <vector>

#include "base/assert.h"
#include "llama/chat_template.h"

namespace hearth::llama {

namespace {

struct Counts {
    std::uint64_t iterations = 0;
    std::uint32_t macro_depth = 0;
};
thread_local Counts* counts = nullptr;

void count_iteration() {
    HEARTH_ASSERT(counts != nullptr, "templates run under a TemplateBudget");
    if (++counts->iterations > kTemplateIterationsMax)
        throw std::runtime_error(fmt::format("the template ran through more than {} iterations", kTemplateIterationsMax));
}

struct CountIteration : jinja::statement {
    jinja::value execute_impl(jinja::context&) const override {
        count_iteration();
        return jinja::mk_val<jinja::value_undefined>();
    }
};

struct EnterMacro : jinja::statement {
    jinja::value execute_impl(jinja::context&) const override {
        count_iteration();
        if (++counts->macro_depth > kTemplateNestingMax)
            throw std::runtime_error(fmt::format("the template's macros call each other more than {} deep", kTemplateNestingMax));
        return jinja::mk_val<jinja::value_undefined>();
    }
};

struct LeaveMacro : jinja::statement {
    jinja::value execute_impl(jinja::context&) const override {
        --counts->macro_depth;
        return jinja::mk_val<jinja::value_undefined>();
    }
};

template <typename Guard>
jinja::statement_ptr make_guard(jinja::statement const& place) {
    auto guard = std::make_unique<Guard>();
    guard->pos = place.pos;
    return guard;
}

void guard_block(jinja::statements& block);

void guard_macro(jinja::statement const& place, jinja::statements& body) {
    guard_block(body);
    body.insert(body.begin(), make_guard<EnterMacro>(place));
    body.push_back(make_guard<LeaveMacro>(place));
}

// Depth is bounded by check_template_shape().
void guard_block(jinja::statements& block) {
    for (auto& statement : block) {
        if (auto* const loop = jinja::cast_stmt<jinja::for_statement>(statement)) {
            guard_block(loop->body);
            guard_block(loop->default_block);
            loop->body.insert(loop->body.begin(), make_guard<CountIteration>(*loop));
        } else if (auto* const branch = jinja::cast_stmt<jinja::if_statement>(statement)) {
            guard_block(branch->body);
            guard_block(branch->alternate);
        } else if (auto* const macro = jinja::cast_stmt<jinja::macro_statement>(statement)) {
            guard_macro(*macro, macro->body);
        } else if (auto* const call = jinja::cast_stmt<jinja::call_statement>(statement)) {
            guard_macro(*call, call->body);
        } else if (auto* const set = jinja::cast_stmt<jinja::set_statement>(statement)) {
            guard_block(set->body);
        } else if (auto* const filter = jinja::cast_stmt<jinja::filter_statement>(statement)) {
            guard_block(filter->body);
        }
    }
}

Error too_deep(std::string_view what, std::uint32_t limit) {
    return Error(Code::unsupported, fmt::format("the chat template {} more than {}", what, limit));
}

// Depth of the blocks opened by statements. An elif nests as deep as an if.
class BlockDepth {
public:
    void statement(std::string_view keyword, bool assigns) {
        if (keyword == "elif" && !open_.empty()) {
            ++open_.back();
            ++depth_;
        } else if (keyword == "for" || keyword == "if" || keyword == "macro" || keyword == "call" || keyword == "filter" ||
                   (keyword == "set" && !assigns)) {
            open_.push_back(1);
            ++depth_;
        } else if (keyword.starts_with("end") && !open_.empty()) {
            depth_ -= open_.back();
            open_.pop_back();
        }
    }
    [[nodiscard]] std::uint32_t depth() const { return depth_; }

private:
    std::vector<std::uint32_t> open_;
    std::uint32_t depth_ = 0;
};

}  // namespace

Status check_template_shape(jinja::lexer_result const& tokens) {
    using Type = jinja::token;
    BlockDepth blocks;
    std::uint32_t length = 0;    // tokens since {{ or {%
    std::uint32_t brackets = 0;  // open in this expression
    std::string keyword;         // first word of a statement
    bool in_statement = false, assigns = false;
    for (auto const& token : tokens.tokens) {
        ++length;
        switch (token.t) {
            case Type::open_statement:
            case Type::open_expression:
                in_statement = token.t == Type::open_statement;
                length = brackets = 0;
                keyword.clear();
                assigns = false;
                break;
            case Type::close_statement: blocks.statement(keyword, assigns); break;
            case Type::identifier:
                if (in_statement && keyword.empty()) keyword = token.value;
                break;
            case Type::equals: assigns = true; break;
            case Type::open_paren:
            case Type::open_square_bracket:
            case Type::open_curly_bracket: ++brackets; break;
            case Type::close_paren:
            case Type::close_square_bracket:
            case Type::close_curly_bracket: brackets -= brackets > 0 ? 1 : 0; break;
            case Type::text:
            case Type::comment: length = 0; break;
            default: break;
        }
        if (length > kTemplateExpressionMax) return too_deep("has an expression whose tokens are", kTemplateExpressionMax);
        if (brackets > kTemplateNestingMax) return too_deep("nests brackets", kTemplateNestingMax);
        if (blocks.depth() > kTemplateNestingMax) return too_deep("nests blocks", kTemplateNestingMax);
    }
    return ok();
}

void insert_template_guards(jinja::program& program) { guard_block(program.body); }

TemplateBudget::TemplateBudget() {
    HEARTH_ASSERT(counts == nullptr, "a rendering does not start another");
    counts = new Counts;
}

TemplateBudget::~TemplateBudget() {
    delete counts;
    counts = nullptr;
}

jinja::value bounded_range() {
    auto const handler = [](jinja::func_args const& args) -> jinja::value {
        auto const& builtins = jinja::global_builtins();
        std::int64_t bounds[3] = {0, 0, 1};  // start, stop, step
        std::size_t const count = args.count();
        if (count == 1) bounds[1] = args.get_pos(0)->as_int();
        if (count >= 2)
            for (std::size_t i = 0; i < count && i < 3; ++i) bounds[i] = args.get_pos(i)->as_int();
        double const span = static_cast<double>(bounds[1]) - static_cast<double>(bounds[0]);
        double const elements = bounds[2] == 0 ? 0 : span / static_cast<double>(bounds[2]);
        if (elements > static_cast<double>(kTemplateIterationsMax))
            throw std::runtime_error(fmt::format("range() of more than {} elements", kTemplateIterationsMax));
        return builtins.at("range")(args);
    };
    return jinja::mk_val<jinja::value_func>("range", handler);
}

}  // namespace hearth::llama
