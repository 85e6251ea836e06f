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
        throw std::runtime_error(
            fmt::format("the template ran through more than {} iterations", kTemplateIterationsMax));
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
            throw std::runtime_error(
                fmt::format("the template's macros call each other more than {} deep", kTemplateNestingMax));
        return jinja::mk_val<jinja::value_undefined>();
    }
};

struct LeaveMacro : jinja::statement {
    jinja::value execute_impl(jinja::context&) const override {
        --counts->macro_depth;
        return jinja::mk_val<jinja::value_undefined>();
    }
};

// range() with a limit; the built-in has none.
jinja::value bounded_range(jinja::func_args const& args) {
    std::int64_t bounds[3] = {0, 0, 1};  // start, stop, step
    std::size_t const count = args.count();
    if (count == 1) bounds[1] = args.get_pos(0)->as_int();
    for (std::size_t i = 0; count > 1 && i < count && i < 3; ++i) bounds[i] = args.get_pos(i)->as_int();
    double const span = static_cast<double>(bounds[1]) - static_cast<double>(bounds[0]);
    double const elements = bounds[2] == 0 ? 0 : span / static_cast<double>(bounds[2]);
    if (elements > static_cast<double>(kTemplateIterationsMax))
        throw std::runtime_error(fmt::format("range() of more than {} elements", kTemplateIterationsMax));
    return jinja::global_builtins().at("range")(args);
}

// An identifier that looks names up in place.
struct Name final : jinja::identifier {
    using jinja::identifier::identifier;
    jinja::value execute_impl(jinja::context& context) const override {
        auto found = context.get_val(val);
        if (!found->is_undefined()) {
            if (context.is_get_stats) jinja::value_t::stats_t::mark_used(found);
            return found;
        }
        if (val == "range") return jinja::mk_val<jinja::value_func>(val, bounded_range);
        auto const& builtins = jinja::global_builtins();
        auto const builtin = builtins.find(val);
        if (builtin == builtins.end()) return jinja::mk_val<jinja::value_undefined>(val);
        return jinja::mk_val<jinja::value_func>(val, builtin->second);
    }
};

template <typename Guard>
jinja::statement_ptr make_guard(jinja::statement const& place) {
    auto guard = std::make_unique<Guard>();
    guard->pos = place.pos;
    return guard;
}

void guard_macro(jinja::statement const& place, jinja::statements& body) {
    body.insert(body.begin(), make_guard<EnterMacro>(place));
    body.push_back(make_guard<LeaveMacro>(place));
}

using Children = std::vector<jinja::statement_ptr*>;

void add(Children& children, jinja::statement_ptr& child) {
    if (child != nullptr) children.push_back(&child);
}
void add(Children& children, jinja::statements& list) {
    for (auto& child : list) add(children, child);
}

// Calls `visit` if the node is a Node.
template <typename Node, typename Visit>
bool if_is(jinja::statement_ptr& node, Visit visit) {
    auto* const cast = jinja::cast_stmt<Node>(node);
    if (cast != nullptr) visit(*cast);
    return cast != nullptr;
}

bool statement_children(jinja::statement_ptr& node, Children& out) {
    return if_is<jinja::for_statement>(node,
                                       [&](auto& n) {
                                           add(out, n.loopvar), add(out, n.iterable), add(out, n.body),
                                               add(out, n.default_block);
                                       }) ||
           if_is<jinja::if_statement>(node,
                                      [&](auto& n) { add(out, n.test), add(out, n.body), add(out, n.alternate); }) ||
           if_is<jinja::macro_statement>(node,
                                         [&](auto& n) { add(out, n.name), add(out, n.args), add(out, n.body); }) ||
           if_is<jinja::call_statement>(
               node, [&](auto& n) { add(out, n.call), add(out, n.caller_args), add(out, n.body); }) ||
           if_is<jinja::set_statement>(node,
                                       [&](auto& n) { add(out, n.assignee), add(out, n.val), add(out, n.body); }) ||
           if_is<jinja::filter_statement>(node, [&](auto& n) { add(out, n.filter), add(out, n.body); });
}

void expression_children(jinja::statement_ptr& node, Children& out) {
    if_is<jinja::member_expression>(node,
                                    [&](auto& n) {
                                        add(out, n.object);
                                        if (n.computed)
                                            add(out,
                                                n.property);  // else the name of a member, which is never evaluated
                                    }) ||
        if_is<jinja::call_expression>(node, [&](auto& n) { add(out, n.callee), add(out, n.args); }) ||
        if_is<jinja::array_literal>(node, [&](auto& n) { add(out, n.val); }) ||
        if_is<jinja::tuple_literal>(node, [&](auto& n) { add(out, n.val); }) ||
        if_is<jinja::object_literal>(node,
                                     [&](auto& n) {
                                         for (auto& [key, value] : n.val) add(out, key), add(out, value);
                                     }) ||
        if_is<jinja::binary_expression>(node, [&](auto& n) { add(out, n.left), add(out, n.right); }) ||
        if_is<jinja::filter_expression>(node, [&](auto& n) { add(out, n.operand), add(out, n.filter); }) ||
        if_is<jinja::select_expression>(node, [&](auto& n) { add(out, n.lhs), add(out, n.test); }) ||
        if_is<jinja::test_expression>(node, [&](auto& n) { add(out, n.operand), add(out, n.test); }) ||
        if_is<jinja::unary_expression>(node, [&](auto& n) { add(out, n.argument); }) ||
        if_is<jinja::slice_expression>(
            node, [&](auto& n) { add(out, n.start_expr), add(out, n.stop_expr), add(out, n.step_expr); }) ||
        if_is<jinja::keyword_argument_expression>(node, [&](auto& n) { add(out, n.key), add(out, n.val); }) ||
        if_is<jinja::spread_expression>(node, [&](auto& n) { add(out, n.argument); }) ||
        if_is<jinja::ternary_expression>(
            node, [&](auto& n) { add(out, n.condition), add(out, n.true_expr), add(out, n.false_expr); });
}

// Depth is bounded by check_template_shape().
void guard_tree(jinja::statement_ptr& node) {
    Children children;
    if (!statement_children(node, children)) expression_children(node, children);
    for (auto* const child : children) guard_tree(*child);

    if_is<jinja::identifier>(node,
                             [&](jinja::identifier& old) {
                                 auto name = std::make_unique<Name>(old.val);
                                 name->pos = old.pos;
                                 node = std::move(name);
                             }) ||
        if_is<jinja::for_statement>(node,
                                    [](auto& n) { n.body.insert(n.body.begin(), make_guard<CountIteration>(n)); }) ||
        if_is<jinja::macro_statement>(node, [](auto& n) { guard_macro(n, n.body); }) ||
        if_is<jinja::call_statement>(node, [](auto& n) { guard_macro(n, n.body); });
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
        } else if (keyword == "for" || keyword == "if" || keyword == "macro" || keyword == "call" ||
                   keyword == "filter" || (keyword == "set" && !assigns)) {
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
        if (length > kTemplateExpressionMax)
            return too_deep("has an expression whose tokens are", kTemplateExpressionMax);
        if (brackets > kTemplateNestingMax) return too_deep("nests brackets", kTemplateNestingMax);
        if (blocks.depth() > kTemplateNestingMax) return too_deep("nests blocks", kTemplateNestingMax);
    }
    return ok();
}

void insert_template_guards(jinja::program& program) {
    for (auto& statement : program.body) guard_tree(statement);
}

TemplateBudget::TemplateBudget() {
    HEARTH_ASSERT(counts == nullptr, "a rendering does not start another");
    counts = new Counts;
}

TemplateBudget::~TemplateBudget() {
    delete counts;
    counts = nullptr;
}

}  // namespace hearth::llama
