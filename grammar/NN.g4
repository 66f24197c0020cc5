// The grammar of .nn, the model language.
//
//   model Tiny(x: [batch, 4]) -> [batch, 2] { x |> Dense(8, activation = relu) |> Dense(2) }
//
// Read behind the newline filter of frontend/token_filter.h: a newline inside brackets or next to an
// operator never reaches these rules, so NL here always ends something. No rule is left recursive
// and none has an action; alternatives that begin alike are factored (`list`, `arg`, `simpleStmt`),
// so that one token decides nearly everywhere and cheap SLL prediction every file that is correct.
// Only the words under "reserved" are; the other keywords are names everywhere else (rule `name`).
grammar NN;

file       : NL* (top (NL+ top)* NL*)? EOF ;
single     : NL* expr NL* EOF ;

// --- declarations ---------------------------------------------------------------------------------

top        : importDecl | decl | trainDecl | binding ;
importDecl : 'import' STRING ('as' name)? ;
decl       : declKw name params (NL* params)? ('->' type)? body ;
declKw     : 'fn' | 'layer' | 'model' | 'optimizer' | 'metric' ;
body       : '=' expr | block gradRule? ;
gradRule   : 'gradient' params block ;
params     : '(' (param (',' param)* ','?)? ')' ;
param      : name (':' type)? ('=' expr)? ;

trainDecl  : 'train' expr? '{' NL* (trainItem (NL+ trainItem)* NL*)? '}' ;
trainItem  : name '=' expr | 'step' params block ;
binding    : name (',' name)* '=' expr (',' expr)* ;

// --- types ----------------------------------------------------------------------------------------

type       : atype ('|' atype)* ;
atype      : path dims? | dims | 'fn' | 'none' | STRING
           | '(' tfield (',' tfield)* ','? ')' ;
path       : name ('.' name)* ;
dims       : '[' (titem (',' titem)* ','?)? ']' ;
titem      : (item | 'fn') ('|' atype)* ;      // `|` and 'fn' only inside `list[…]`
tfield     : type (':' type)? ;                // `name: type`; the first is checked to be a name

// --- statements -----------------------------------------------------------------------------------

block      : '{' NL* (stmt (NL+ stmt)* NL*)? '}' ;
stmt       : paramStmt | forStmt | yieldStmt | reportStmt | minimizeStmt | simpleStmt ;
paramStmt  : ('param' | 'state') name (':' type)? '=' expr (',' option)* ;
option     : name '=' expr ;
forStmt    : 'for' name (',' name)* 'in' expr block ;
yieldStmt  : 'yield' expr (',' expr)* ;
reportStmt : 'report' reportItem (',' reportItem)* ;
reportItem : name ('=' expr)? ;
minimizeStmt : 'minimize' expr 'over' expr (',' expr)* 'with' expr ('every' expr)? ;
// What is bound is checked to be names: `x[0] = 1` then gets a better message than a parser's.
simpleStmt : expr ((',' expr)* '=' expr (',' expr)* | '<-' expr)? ;

// --- expressions, weakest first -------------------------------------------------------------------

expr       : orE ('|>' orE)* | lambda ;
lambda     : 'fn' params ('=' expr | block) ;
orE        : andE ('or' andE)* ;
andE       : notE ('and' notE)* ;
notE       : 'not'* cmp ;
cmp        : rangeE (('<' | '<=' | '>' | '>=' | '==' | '!=') rangeE)* ;
rangeE     : sum ('..' sum)? ;
sum        : prod (('+' | '-') prod)* ;
prod       : unary (('*' | '/' | '//' | '%' | '@') unary)* ;
unary      : '-'* power ;
power      : post ('**' exponent)* ;
exponent   : '-'* post ;
post       : atom trailer* ;
atom       : ifE | scanE | list | tuple | name | INT | FLOAT | STRING | 'true' | 'false' | 'none' ;
ifE        : 'if' expr block ('else' 'if' expr block)* ('else' block)? ;
scanE      : 'scan' scanBind (',' scanBind)* block ;
scanBind   : name ('in' expr ('along' axis)? | '=' expr) ;
axis       : name | '-'? INT ;
list       : '[' (item (comprehension | (',' item)* ','?))? ']' ;
comprehension : 'for' name (',' name)* 'in' expr ('if' expr)? ;
item       : '..'? expr ;
tuple      : '(' (arg (',' arg)* ','?)? ')' ;
arg        : '..' expr | expr ('=' expr)? ;    // `name = value`; the first is checked to be a name
trailer    : call | indices | '.' name ;
call       : '(' (arg (',' arg)* ','?)? ')' ;
indices    : '[' index (',' index)* ','? ']' ;
index      : '...' | expr slice? | slice ;
slice      : ':' expr? (':' expr?)? ;

name       : NAME | 'layer' | 'model' | 'optimizer' | 'metric' | 'train' | 'step' | 'param'
           | 'state' | 'report' | 'minimize' | 'over' | 'with' | 'every' | 'along' | 'gradient' | 'as' ;

// --- tokens ---------------------------------------------------------------------------------------

// Reserved.
FN : 'fn' ; IF : 'if' ; ELSE : 'else' ; FOR : 'for' ; IN : 'in' ; SCAN : 'scan' ; YIELD : 'yield' ;
IMPORT : 'import' ; AND : 'and' ; OR : 'or' ; NOT : 'not' ;
TRUE : 'true' ; FALSE : 'false' ; NONE : 'none' ;

// Words at their place, names elsewhere.
LAYER : 'layer' ; MODEL : 'model' ; OPTIMIZER : 'optimizer' ; METRIC : 'metric' ; TRAIN : 'train' ;
STEP : 'step' ; PARAM : 'param' ; STATE : 'state' ; REPORT : 'report' ; MINIMIZE : 'minimize' ;
OVER : 'over' ; WITH : 'with' ; EVERY : 'every' ; ALONG : 'along' ;
GRADIENT : 'gradient' ; AS : 'as' ;

LPAREN : '(' ; RPAREN : ')' ; LBRACKET : '[' ; RBRACKET : ']' ; LBRACE : '{' ; RBRACE : '}' ;
COMMA : ',' ; COLON : ':' ; DOT : '.' ; DOTDOT : '..' ; ELLIPSIS : '...' ;
ASSIGN : '=' ; ARROW : '->' ; STORE : '<-' ; PIPE : '|>' ; BAR : '|' ;
LT : '<' ; LE : '<=' ; GT : '>' ; GE : '>=' ; EQ : '==' ; NE : '!=' ;
PLUS : '+' ; MINUS : '-' ; STAR : '*' ; SLASH : '/' ; SLASHSLASH : '//' ; PERCENT : '%' ; AT : '@' ;
STARSTAR : '**' ;

FLOAT   : [0-9]+ '.' [0-9]+ EXP? | [0-9]+ EXP ;
INT     : [0-9]+ ('_' [0-9]+)* ;
fragment EXP : [eE] [+-]? [0-9]+ ;
NAME    : [A-Za-z_] [A-Za-z0-9_]* ;
STRING  : '"' (~["\\\r\n] | '\\' ~[\r\n])* '"' ;
COMMENT : '#' ~[\r\n]* -> channel(HIDDEN) ;   // `##` documents the declaration below it
WS      : [ \t\r]+ -> skip ;
NL      : '\n' ;
OTHER   : . ;                                  // reported by the filter, never reaches a rule
