package preheat

import "errors"

// Errors that callers tell apart with errors.Is.
var (
	ErrInvalid  = errors.New("invalid")              // the request makes no sense as it stands
	ErrUnlisted = errors.New("registry not allowed") // not in this node's configuration
	ErrNotFound = errors.New("no such job")
	ErrUnknown  = errors.New("no such image")             // the registry has none of that name
	ErrDenied   = errors.New("refused by the registry")   // credentials missing, wrong or expired
	ErrPlatform = errors.New("no such platform")          // the index lists others
	ErrNoNode   = errors.New("no such node")              // nobody of that scope
	ErrBusy     = errors.New("too many preheats at once") // come back later
	ErrAway     = errors.New("owner of the job is away")  // it may come back
	ErrClosed   = errors.New("preheat is stopping")
)
